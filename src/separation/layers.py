"""The modules of a VGG, and its positions: the ends of its blocks, where it can be cut."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.network.convolution import Convolution
from src.network.vgg import VGG, MeanPool, Plan
from src.separation.stream import device_of, output_hooks

KINDS = {
    Convolution: "conv",
    nn.BatchNorm2d: "batchnorm",
    nn.ReLU: "relu",
    nn.MaxPool2d: "pool",
    MeanPool: "pool",
    nn.Linear: "linear",
    nn.Dropout: "dropout",
}


@dataclass(frozen=True)
class Layer:
    """A module of a network and the size of its output.

    ``name``: as in torchvision; ``kind``: a value of `KINDS`; ``block``: 1 to 5, counted by the pools, or head;
    ``channels`` and ``dims``: channels and values of its output for one image.
    """

    name: str
    kind: str
    block: str
    channels: int
    dims: int


def layers(model: VGG) -> list[Layer]:
    """Return the modules of ``model`` in the order in which they run."""
    ran: list[Layer] = []

    def add(name: str, output: Tensor) -> None:
        kind = KINDS.get(type(model.get_submodule(name)), "other")
        pools = sum(layer.kind == "pool" for layer in ran)
        block = str(pools + 1) if name.startswith("features.") else "head"
        ran.append(Layer(name, kind, block, output.shape[1], output[0].numel()))

    with output_hooks(model, add), torch.no_grad():
        model(torch.zeros(1, 3, model.plan.side, model.plan.side, device=device_of(model)))
    return ran


def block_ends(plan: Plan) -> dict[str, str]:
    """Return the name of the last module of each block of ``plan.features``, by the name of the block."""
    return {block.name: f"features.{end - 1}" for block, end in zip(plan.features, plan.module_ends(), strict=True)}
