"""Distill: fine-tune the parent so that it imitates the trained network, the teacher.

Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network" (arXiv:1503.02531). The teacher's
probabilities for the wrong classes say which classes an image is similar to; the label alone does not.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from src.compression.candidate import Candidate, Context
from src.compression.fine_tune import FineTune, after_fine_tuning, fine_tune
from src.compression.technique import TechniqueSettings
from src.network.cost import macs
from src.network.vgg import VGG
from src.training.loop import Model, Objective

FLOPS_PER_MAC = 2


class Settings(TechniqueSettings):
    """How soft the probabilities are, how much the teacher counts beside the labels, and how to fine-tune."""

    temperature: float = Field(gt=0)
    mixing: float = Field(ge=0, le=1)
    fine_tune: FineTune


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` after fine-tuning with the objective of `distillation`; the teacher's cost is counted."""
    if context.teacher is None:
        raise ValueError("distill needs a teacher")
    loss = distillation(context.teacher, settings)
    tuned = fine_tune(candidate.network, context, settings.fine_tune, loss)
    step = f"distilled at temperature {settings.temperature:g}, the teacher counts {settings.mixing:.0%}; "
    teaching = FLOPS_PER_MAC * macs(context.teacher) * tuned.image_passes / 1e15
    return after_fine_tuning(candidate, step, tuned).trained(0, teaching)


def distillation(teacher: VGG, settings: Settings) -> Objective:
    """Return the loss of a batch: ``mixing`` x T^2 x KL(teacher || student) + (1 - ``mixing``) x cross-entropy.

    Both networks' logits are divided by the temperature T before the softmax of the divergence. T^2 keeps the size of
    its gradients independent of T (section 2 of the paper). Cross-entropy uses the label smoothing of the fine-tuning.
    """
    teacher.eval()
    temperature, smoothing = settings.temperature, settings.fine_tune.label_smoothing

    def objective(model: Model, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            target = F.log_softmax(teacher(images).float() / temperature, dim=1)
        logits = model(images)
        student = F.log_softmax(logits.float() / temperature, dim=1)
        divergence = F.kl_div(student, target, reduction="batchmean", log_target=True)
        labelled = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        return settings.mixing * temperature**2 * divergence + (1 - settings.mixing) * labelled

    return objective
