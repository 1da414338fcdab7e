"""Prune weights: the smallest weights of the whole network become zero, more and more of them during fine-tuning.

Magnitude pruning with the gradual schedule of Zhu and Gupta 2017, "To prune, or not to prune: exploring the efficacy of
pruning for model compression" (arXiv:1710.01878). Zeros save bytes once the file is compressed. They save no time: the
kernels that run these networks are dense and multiply zeros as well.
"""

import copy

import numpy as np
import torch
from pydantic import Field

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import FineTuned
from src.compression.training import fine_tune
from src.network.vgg import VGG


class Settings(FineTuned):
    """The share of zeros to reach, the share of the fine-tuning after which it is reached, and how to fine-tune."""

    sparsity: float = Field(gt=0, lt=1)
    ramp: float = Field(ge=0, le=1)


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` fine-tuned while its smallest weights become zero, step by step."""

    def after_step(model: VGG, progress: float) -> None:
        prune(model, sparsity_at(progress, settings.sparsity, settings.ramp))

    at_once = copy.deepcopy(candidate.network)
    prune(at_once, settings.sparsity)
    without = context.validation_accuracy(at_once)
    step = (
        f"set {settings.sparsity:g} of the weights to zero by global magnitude "
        f"(validation accuracy at once, without fine-tuning: {without:.4f}), "
    )
    return fine_tune(candidate, candidate.network, step, context, settings, after_step=after_step)


def sparsity_at(progress: float, final: float, ramp: float) -> float:
    """Return the share of zeros after the share ``progress`` of the steps (equation 1 of the paper, from 0 to final).

    It is ``final`` x (1 - (1 - ``progress`` / ``ramp``)^3) up to ``ramp`` and ``final`` from there on: fast at first,
    while many weights are superfluous.
    """
    if progress >= ramp:
        return final
    return final * (1 - (1 - progress / ramp) ** 3)


@torch.no_grad()
def prune(network: VGG, sparsity: float) -> None:
    """Set the share ``sparsity`` of the weights of ``network``, those of the smallest magnitude, to zero, in place.

    The entries of all filter banks and matrices are ranked together, also those of the last layer; biases and BatchNorm
    are left alone. The mask follows from the weights alone, so a weight that has grown comes back. Weights of the same
    magnitude as the largest one that goes all go. 15 million weights take 0.3 s on one core; numpy.partition is faster
    than torch.kthvalue, but slow among many equal numbers, so the zeros are left out.
    """
    weights = [layer.weight for layer in network.weighted_layers]
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights]).cpu().numpy()
    filled = magnitudes[magnitudes > 0]
    surplus = len(filled) - (len(magnitudes) - round(sparsity * len(magnitudes)))
    if surplus <= 0:
        return
    largest = float(np.partition(filled, surplus - 1)[surplus - 1])
    for weight in weights:
        weight.masked_fill_(weight.abs() <= largest, 0.0)
