"""How important each channel of a layer is, as torch-pruning asks for it: a function of a group of coupled layers.

``magnitude`` and ``taylor`` are those of torch-pruning (Fang et al. 2023, arXiv:2301.12900); the source of
``taylor`` is Molchanov et al. 2019 (arXiv:1906.10771). ``csi`` selects the channels that separate the classes
(`src.compression.selection`). ``random`` is the control: what an importance is worth shows against it, at identical
widths.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.compression.selection import selection_scores
from src.data.prepared import Split
from src.network.inference import to_unit
from src.network.vgg import VGG

Importance = Callable[[Any], Tensor | None]  # a group of torch-pruning -> scores [channels]; None: all channels stay
ROUNDING = 1e-6  # of a number of channels: 40 * (1 - 0.8) is 8


def importance(name: str, network: VGG, images: Split, batch: int, seed: int) -> Importance:
    """Return the importance ``name`` of the channels of ``network``.

    ``images`` are what ``taylor`` and ``csi`` look at; ``taylor`` takes ``batch`` at a time and leaves gradients in the
    parameters. ``seed`` decides the random importance.
    """
    import torch_pruning as tp

    if name == "taylor":
        accumulate_gradients(network, images, batch)
    makers = {
        "magnitude": tp.importance.GroupMagnitudeImportance,
        "taylor": tp.importance.GroupTaylorImportance,
        "csi": lambda: Selected(network, images),
        "random": lambda: Random(tp.importance.GroupMagnitudeImportance(), seed),
    }
    return makers[name]()


class Floored:
    """An importance that protects the best channels of each layer.

    Each layer keeps the ``share`` of its channels, in whole multiples of ``multiple``. torch-pruning itself checks
    ``max_pruning_ratio`` only before a step, and may round a layer down to no channel.
    """

    def __init__(self, scored: Importance, share: float, multiple: int) -> None:
        self.scored, self.share, self.multiple = scored, share, multiple

    def floor(self, width: int) -> int:
        """Return how many channels of ``width`` to keep."""
        return min(width, math.ceil(width * self.share / self.multiple - ROUNDING) * self.multiple)

    def __call__(self, group: Any) -> Tensor | None:
        """Return scores [channels] of one layer, infinite for those that stay; None where all channels stay."""
        scores = self.scored(group)
        if scores is not None:
            scores[scores.topk(self.floor(len(scores))).indices] = math.inf
        return scores


class Random:
    """An importance without information: the channels that ``scored`` scores get random scores."""

    def __init__(self, scored: Importance, seed: int) -> None:
        self.scored, self.generator = scored, torch.Generator().manual_seed(seed)

    def __call__(self, group: Any) -> Tensor | None:
        """Return scores [channels] of one layer, uniform in 0..1; None where nothing is scored."""
        scores = self.scored(group)
        return scores if scores is None else torch.rand(scores.shape, generator=self.generator).to(scores)


class Selected:
    """The importance of greedy selection: the channel that was selected first has the highest score."""

    def __init__(self, network: VGG, images: Split) -> None:
        self.scores = selection_scores(network, images)

    def __call__(self, group: Any) -> Tensor | None:
        """Return scores [channels] of one layer; None for a layer that is not a convolution or hidden layer."""
        scores = self.scores.get(group[0].dep.target.module)
        return None if scores is None else scores.clone()


def accumulate_gradients(network: VGG, images: Split, batch: int) -> None:
    """Set each parameter's gradient to the sum, over batches, of the absolute gradient of the batch's loss.

    GroupTaylorImportance multiplies it by the weight. Signed gradients of different images would cancel.
    """
    sums = [torch.zeros_like(parameter) for parameter in network.parameters()]
    for pixels, labels in zip(images.images.split(batch), images.labels.split(batch), strict=True):
        loss = F.cross_entropy(network(to_unit(pixels)), labels, reduction="sum")
        for total, gradient in zip(sums, torch.autograd.grad(loss, [*network.parameters()]), strict=True):
            total += gradient.abs()
    for parameter, total in zip(network.parameters(), sums, strict=True):
        parameter.grad = total
