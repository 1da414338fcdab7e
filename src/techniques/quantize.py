"""Quantize: weights and activations in eight bits, by ONNX Runtime's static quantization."""

import copy
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import Folds
from src.network.vgg import VGG
from src.separation.stream import stream


class Settings(Folds):
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
    """Return a copy of ``network`` that computes the same but for rounding, and how many layers it scaled.

    Where one convolution directly follows another, as the thin ones of low rank do, each channel between them is
    divided by its largest magnitude on ``images``, uint8 [N, 3, side, side]. So channels with large and with small
    values fit into one range of eight bits: SmoothQuant (Xiao et al. 2023, arXiv:2211.10438) with alpha = 1.
    """
    network = copy.deepcopy(network)
    convolutions = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    follows = dict(pairwise(network.features))
    thin = {name: layer for name, layer in convolutions.items() if isinstance(follows.get(layer), nn.Conv2d)}
    largest = {name: torch.zeros(layer.out_channels) for name, layer in thin.items()}

    def look(name: str, output: Tensor, _: Tensor) -> None:
        largest[name] = torch.maximum(largest[name].to(output.device), output.abs().amax((0, 2, 3)))

    if thin:
        stream(network, images, [look], thin, description="ranges of thin layers")
    for name, layer in thin.items():
        reader: Any = follows[layer]
        scale = torch.where(largest[name] > 0, largest[name], 1)
        layer.weight /= scale.view(-1, 1, 1, 1)
        if layer.bias is not None:
            layer.bias /= scale
        reader.weight *= scale.view(1, -1, 1, 1)
    return network, len(thin)
