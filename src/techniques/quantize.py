"""Quantize: weights and activations in eight bits, by ONNX Runtime's static quantization."""

import contextlib
import copy
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import TechniqueSettings
from src.network.vgg import VGG

SHARE = 0.75  # of the ranges of the activations in the scales; the rest is that of the weights
BATCH = 100


class Settings(TechniqueSettings):
    """How the ranges of the activations are found: on ``calibration_images`` training images, by ``method``."""

    leaf: ClassVar[bool] = True
    calibration_images: int = Field(ge=1)
    method: Literal["minmax", "entropy", "percentile"]


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` with its file to be written in int8; it is folded first, so that weights are rounded once.

    The network itself stays in float32: rounding happens in the export. Thin layers are `smoothed` first.
    """
    sample = context.sample(settings.calibration_images)
    network, thin = smoothed(candidate.network, sample.images)
    done = f"int8 with ranges of {len(sample)} training images by {settings.method}"
    return candidate.after(
        f"thin layers smoothed, {done}" if thin else done,
        network,
        fold=True,
        precision="int8",
        calibration_images=len(sample),
        calibration_method=settings.method,
    )


@torch.no_grad()
def smoothed(network: VGG, images: Tensor) -> tuple[VGG, int]:
    """Return a copy of ``network`` that computes the same, and in how many places its channels were scaled.

    Where one convolution directly follows another, as the thin ones of low rank do, channel j between them is divided
    by max|x_j|^0.75 / max|w_j|^0.25: x are its activations on ``images``, uint8 [N, 3, side, side], and w the weights
    that read it. So channels with large and with small values fit into one range of eight bits (SmoothQuant, Xiao et
    al. 2023, arXiv:2211.10438).
    """
    network = copy.deepcopy(network)
    neighbours = pairwise(network.features)
    pairs = [(a, b) for a, b in neighbours if isinstance(a, nn.Conv2d) and isinstance(b, nn.Conv2d)]
    largest: dict[nn.Module, Tensor] = {}

    def look(layer: nn.Module, _: object, output: Tensor) -> None:
        found = output.abs().amax((0, 2, 3))
        largest[layer] = torch.maximum(largest.get(layer, found), found)

    with contextlib.ExitStack() as hooks:
        for first, _ in pairs:
            hooks.enter_context(first.register_forward_hook(look))
        for batch in images.split(BATCH) if pairs else ():
            network(batch)
    for first, second in pairs:
        activations, weights = largest[first], second.weight.abs().amax((0, 2, 3))
        used = (activations > 0) & (weights > 0)
        scale = torch.where(used, activations**SHARE / weights ** (1 - SHARE), 1)
        first.weight /= scale.view(-1, 1, 1, 1)
        if first.bias is not None:
            first.bias /= scale
        second.weight *= scale.view(1, -1, 1, 1)
    return network, len(pairs)
