"""Distill: fine-tune the parent so that it imitates the trained network, the teacher.

Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network" (arXiv:1503.02531). The teacher's
probabilities for the wrong classes say which classes an image is similar to; the label alone does not.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import FineTuned
from src.compression.training import fine_tune
from src.network.vgg import VGG
from src.training.loop import Model, Objective


class Settings(FineTuned):
    """How soft the probabilities are, how much the teacher counts beside the labels, and how to fine-tune."""

    temperature: float = Field(gt=0)
    mixing: float = Field(ge=0, le=1)


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` after fine-tuning with the objective of `distillation`."""
    teacher = context.root.network
    step = f"distilled at temperature {settings.temperature:g}, the teacher counts {settings.mixing:.0%}; "
    loss = distillation(teacher, settings)
    return fine_tune(candidate, candidate.network, step, context, settings, objective=loss, teacher=teacher)


def distillation(teacher: VGG, settings: Settings) -> Objective:
    """Return the loss of a batch: ``mixing`` x T^2 x KL(teacher || student) + (1 - ``mixing``) x cross-entropy.

    Both networks' logits are divided by the temperature T before the softmax of the divergence. T^2 keeps the size of
    its gradients independent of T (section 2 of the paper). Cross-entropy uses the label smoothing of the fine-tuning.
    """
    teacher.eval()
    temperature, smoothing = settings.temperature, settings.train.label_smoothing

    def objective(model: Model, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            target = F.log_softmax(teacher(images).float() / temperature, dim=1)
        logits = model(images)
        student = F.log_softmax(logits.float() / temperature, dim=1)
        divergence = F.kl_div(student, target, reduction="batchmean", log_target=True)
        labelled = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        return settings.mixing * temperature**2 * divergence + (1 - settings.mixing) * labelled

    return objective
