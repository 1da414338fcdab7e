"""Quantize weights: training at 2 to 8 bits per weight, for a small coded file; what runs is an int8 file.

Each output channel has a uniform symmetric grid: a weight is a code, an integer within +-(2^(bits - 1) - 1), times the
channel's step. Gradients pass straight through the rounding and reach the steps too: Esser et al. 2020, "Learned step
size quantization" (arXiv:1902.08153). Steps are learned as logarithms (Jain et al. 2020, arXiv:1903.08066), because an
update of AdamW has about the size of the learning rate, whatever it updates. A short training moves them little, so
each starts where rounding changes its channel least, and not at the paper's 2 x mean magnitude / sqrt(largest code):
that one cuts off the few large weights of a layer that began as the identity, and uses a quarter of the codes of
eight bits. The first and the last layer, which have few weights, keep eight bits, as in the first paper.

BatchNorm stays while the network trains: it makes up for what rounding shifts. It is folded afterwards, which is exact:
a factor per output channel changes a step, and no code.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import FineTuned
from src.compression.training import fine_tune
from src.network.folding import without_batch_norm, without_repeated_pool
from src.network.vgg import VGG, rebuild
from src.training.loop import Model, Objective

EDGE_BITS = 8  # of the first and the last layer
SMALLEST_STEP = 1e-6  # at the start, of a channel of zeros
STARTS = 32  # steps that are tried for each channel
EMPTY_SCALE = 2**-10  # of a channel of zeros at the end; the bias is rounded to multiples of it times the input's scale


class Settings(FineTuned):
    """Bits per weight, what a bit costs in the loss, how to fine-tune, and how to calibrate (as `quantize` does).

    ``rate``: the loss is cross-entropy + ``rate`` x the mean number of bits that the coder spends on a weight.
    """

    leaf: ClassVar[bool] = True
    bits: int = Field(ge=2, le=8)
    rate: float = Field(ge=0)
    calibration_images: int = Field(ge=1)
    method: Literal["minmax", "entropy", "percentile"]

    def objection(self, ancestors: Sequence[str]) -> str | None:
        """Return why not to train so: the steps of the grid would stay when the weights are scaled."""
        if self.scales_filters:
            return "train.normed_filters scales the weights at the start, and not the steps of their grid"
        return super().objection(ancestors)


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` folded and with weights on a grid, fine-tuned on it; its file is to be written in int8."""
    network = without_repeated_pool(candidate.network)
    put_on_grid(network, settings.bits)
    step = f"weights of {settings.bits} bits, rate {settings.rate:g}, "
    tuned = fine_tune(
        candidate,
        network,
        step,
        context,
        settings,
        objective=rated(network, settings) if settings.rate else None,
        fold=True,
        precision="int8",
        calibration_images=min(settings.calibration_images, len(context.train)),
        calibration_method=settings.method,
    )
    return replace(tuned, network=settled(tuned.network))


class Grid(nn.Module):
    """What a weight [out, ...] becomes: the nearest point of the grid of its output channel, same shape."""

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        self.largest = 2 ** (bits - 1) - 1  # the largest code
        self.log_step = nn.Parameter(nearest_step(weight.detach().flatten(1), self.largest).log())

    def step(self, weight: Tensor) -> Tensor:
        """Return the step of each channel of ``weight`` [out, ...]: float32 [out, 1, ...]."""
        return self.log_step.exp().view(-1, *[1] * (weight.dim() - 1))

    def place(self, weight: Tensor) -> Tensor:
        """Return where ``weight`` lies on the grid, in steps, at most at the largest code: float32, same shape."""
        return (weight / self.step(weight)).clamp(-self.largest, self.largest)

    def forward(self, weight: Tensor) -> Tensor:
        """Return codes times steps; the gradient takes rounding for the identity."""
        place = self.place(weight)
        return (place + (place.round() - place).detach()) * self.step(weight)


def nearest_step(weight: Tensor, largest: int) -> Tensor:
    """Return for each row of ``weight`` [out, n] the step whose grid is nearest to it, by the sum of squares: [out].

    It is the best of `STARTS` steps, evenly spaced, up to the one that puts the largest weight at the code ``largest``.
    """
    whole = (weight.abs().amax(1, keepdim=True) / largest).clamp(min=SMALLEST_STEP)
    steps = [whole * number / STARTS for number in range(STARTS, 0, -1)]
    errors = [((weight / step).round().clamp(-largest, largest) * step - weight).square().sum(1) for step in steps]
    return torch.cat(steps, 1).gather(1, torch.stack(errors, 1).argmin(1, keepdim=True)).flatten()


def put_on_grid(network: VGG, bits: int) -> None:
    """Give each weight of ``network`` a `Grid`, in place."""
    inner = network.weighted_layers[1:-1]
    for layer in network.weighted_layers:
        own = bits if layer in inner else EDGE_BITS
        parametrize.register_parametrization(layer, "weight", Grid(layer.weight, own))


def grid_of(layer: nn.Module) -> tuple[Grid, Tensor]:
    """Return the grid of ``layer``, and its weight as training changes it, before it is rounded."""
    parametrizations: Any = layer.parametrizations
    return parametrizations.weight[0], parametrizations.weight.original


def rated(network: VGG, settings: Settings) -> Objective:
    """Return the objective: cross-entropy + ``rate`` x `bits_per_weight` of ``network``, which is trained."""

    def objective(model: Model, images: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(model(images), labels, label_smoothing=settings.train.label_smoothing)
        return loss + settings.rate * bits_per_weight(network)

    return objective


def bits_per_weight(network: VGG) -> Tensor:
    """Return the mean `code_lengths` of the weights of ``network``, which has grids (scalar).

    The first and the last layer are left out: 255 codes of so few weights make no histogram to follow.
    """
    grids = [grid_of(layer) for layer in network.weighted_layers[1:-1]]
    lengths = [code_lengths(grid.place(weight), grid.largest).flatten() for grid, weight in grids]
    return torch.cat(lengths).mean() if lengths else torch.zeros(())


def code_lengths(place: Tensor, largest: int) -> Tensor:
    """Return how many bits the coder spends on each weight of a layer, from its ``place`` on the grid, in steps.

    A code costs -log2 of its share among the codes of the layer, as in a coded file; between two codes the cost is
    interpolated, so that a weight feels which neighbour is cheaper. The shares are taken as given: their own gradients
    add up to zero, as they do for an entropy.
    """
    codes = (place.detach().round() + largest).long().flatten()
    counts = torch.bincount(codes, minlength=2 * largest + 1) + 1  # so that an unused code has a finite cost
    costs = (counts.sum() / counts).log2()
    below = place.detach().floor().clamp(max=largest - 1)
    low, high = costs[(below + largest).long()], costs[(below + largest + 1).long()]
    return low + (place - below) * (high - low)


@torch.no_grad()
def settled(network: VGG) -> VGG:
    """Return ``network``, which has grids, with BatchNorm folded, and plain weights: codes times ``scale``.

    The scales are rounded to bfloat16, so that they need half of the bytes in a coded file. Those of the last layer do
    not: the stage export divides them by the temperature.
    """
    codes = []
    for layer in network.weighted_layers:
        grid, weight = grid_of(layer)
        codes.append(grid.place(weight).round())
        parametrize.remove_parametrizations(layer, "weight")
    whole = without_batch_norm(network)
    tensors = whole.state_dict()
    names = [name for name, parameter in whole.named_parameters() if parameter.dim() > 1]
    for name, own in zip(names, codes, strict=True):
        scale = _scale(tensors[name], own)
        shaped = scale.view(-1, *[1] * (own.dim() - 1))
        tensors[name] = (tensors[name] / shaped).round() * shaped
        tensors[name.replace("weight", "scale")] = scale
    return rebuild(whole.plan.model_copy(update={"grid": True}), tensors)


def _scale(weight: Tensor, codes: Tensor) -> Tensor:
    """Return what a code is worth in each channel of ``weight``, which is a multiple of ``codes``: float32 [out]."""
    largest, code = (tensor.abs().flatten(1).amax(1) for tensor in (weight, codes))
    return torch.where(largest > 0, largest / code, EMPTY_SCALE).bfloat16().float()
