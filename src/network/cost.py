"""What a network costs: parameters and multiply-accumulates (MACs), by one counter for every table."""

import contextlib
from typing import cast

import torch
from torch import nn

from src.network.inference import evaluating
from src.network.vgg import VGG

FLOPS_PER_MAC_INFERENCE = 2
FLOPS_PER_MAC_TRAINING = 6  # 2 per MAC, once forward and twice backward


def parameters(model: nn.Module) -> int:
    """Return the number of learned values."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def macs(model: nn.Module, side: int | None = None) -> int:
    """Return the MACs of convolutions and linear layers for one image of ``side`` x ``side`` pixels.

    Without a ``side`` it is that of the plan of ``model``, which must be a `VGG`. Biases, BatchNorm, ReLU, pooling and
    normalization are not counted; fvcore and ptflops count in the same way. FLOPs are twice the MACs. ``model`` is left
    as it was, whether it can take such an image or not.
    """
    counts: list[int] = []

    def count(module: nn.Conv2d | nn.Linear, _: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        counts.append(output.numel() * module.weight[0].numel())

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    device = next(model.parameters()).device
    with evaluating(model), contextlib.ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_hook(count))
        side = cast(VGG, model).plan.side if side is None else side
        model(torch.zeros(1, 3, side, side, device=device))
    return sum(counts)
