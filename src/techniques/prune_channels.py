"""Prune channels: remove whole filters, the least important of the whole network first, and fine-tune.

The dependency graph and the importances are those of torch-pruning (Fang et al. 2023, arXiv:2301.12900); ``taylor``
is the first-order importance of Molchanov et al. 2019 (arXiv:1906.10771), ``bn_scale`` that of Liu et al. 2017
(arXiv:1708.06519). ``random`` is the control: what an importance is worth shows against it, at identical widths
(ranking ``uniform``).
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from src.compression.candidate import Candidate, Context
from src.compression.fine_tune import FineTune, after_fine_tuning, fine_tune
from src.compression.technique import TechniqueSettings
from src.core.dataset import Split
from src.network.folding import without_repeated_pool
from src.network.inference import to_unit
from src.network.vgg import VGG, Plan, rebuild


class Settings(TechniqueSettings):
    """How many channels to remove, which, and how to fine-tune afterwards."""

    ratio: float = Field(gt=0, lt=1)
    importance: Literal["magnitude", "taylor", "bn_scale", "random"]
    draw: int = Field(ge=0)
    ranking: Literal["global", "uniform"]
    importance_images: int = Field(ge=1)
    importance_batch: int = Field(ge=1)
    round_to: int = Field(ge=1)
    max_layer_ratio: float = Field(gt=0, lt=1)
    fine_tune: FineTune

    def objection(self, ancestors: Sequence[str]) -> str | None:
        """Return why not to prune by ``bn_scale``, if BatchNorm has been folded."""
        if self.importance == "bn_scale" and "fold" in ancestors:
            return "prune_channels by bn_scale cannot follow fold: there is no BatchNorm left"
        return None


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` without ``ratio`` of the channels of convolutions and hidden layers, fine-tuned."""
    dense = without_repeated_pool(candidate.network)
    pruned = prune(dense, context.sample(settings.importance_images), settings, context.seed)
    share = 1 - sum(pruned.plan.widths) / sum(dense.plan.widths)
    step = (
        f"removed {share:.1%} of the channels by {_named(settings)} "
        f"(validation accuracy before: {context.validation_accuracy(dense):.4f}), "
    )
    notes = ["the head's repeated pool was folded before channels were pruned"]
    tuned = fine_tune(pruned, context, settings.fine_tune)
    repeated = candidate.network.plan.pooled_side > 1
    return after_fine_tuning(candidate, step, tuned, *(notes if repeated else ()), fold=True)


def _named(settings: Settings) -> str:
    return f"random draw {settings.draw}" if settings.importance == "random" else settings.importance


def prune(network: VGG, images: Split, settings: Settings, seed: int = 0) -> VGG:
    """Return ``network`` without its least important channels, as a new network that is not yet fine-tuned.

    Ranking ``global``: the least important channels of all layers go; importance is divided by its mean in each layer,
    so that layers of different scale compare. Ranking ``uniform``: every layer loses the same share, so that two
    importances meet at identical widths. Every layer keeps at least 1 - ``max_layer_ratio`` of its channels. ``seed``
    and ``draw`` decide the random importance.
    """
    import torch_pruning as tp

    network = copy.deepcopy(network).eval()
    if settings.importance == "taylor":
        _accumulate_gradients(network, images, settings.importance_batch)
    importances = {
        "magnitude": tp.importance.GroupMagnitudeImportance,
        "taylor": tp.importance.GroupTaylorImportance,
        "bn_scale": tp.importance.BNScaleImportance,
        "random": lambda: _Random(tp.importance.GroupMagnitudeImportance(), seed + settings.draw),
    }
    importance = _Floored(importances[settings.importance](), settings)
    pruner = tp.pruner.BasePruner(
        network,
        torch.zeros(1, 3, 32, 32, device=network.mean.device),
        importance,
        global_pruning=settings.ranking == "global",
        pruning_ratio=_reachable(network.plan, importance, settings),
        round_to=settings.round_to,
        ignored_layers=[network.classifier[-1]],
    )
    pruner.step()
    return rebuild(_current_plan(network), network.state_dict())


class _Floored:
    """An importance that protects the best channels of each layer.

    torch-pruning itself checks ``max_pruning_ratio`` only before a step, and may round a layer down to no channel.
    """

    def __init__(self, importance: Any, settings: Settings) -> None:
        self.importance = importance
        self.share, self.multiple = 1 - settings.max_layer_ratio, settings.round_to

    def floor(self, width: int) -> int:
        """Return how many channels of ``width`` to keep: at least the share, in whole multiples."""
        return min(width, math.ceil(width * self.share / self.multiple) * self.multiple)

    def __call__(self, group: Any) -> Tensor | None:
        """Return scores [channels] of one layer, infinite for those that stay; None where all channels stay."""
        scores = self.importance(group)
        if scores is not None:
            scores[scores.topk(self.floor(len(scores))).indices] = math.inf
        return scores


class _Random:
    """An importance without information: the channels that ``scored`` scores get random scores."""

    def __init__(self, scored: Any, seed: int) -> None:
        self.scored, self.generator = scored, torch.Generator().manual_seed(seed)

    def __call__(self, group: Any) -> Tensor | None:
        """Return scores [channels] of one layer, uniform in 0..1; None where nothing is scored."""
        scores = self.scored(group)
        return scores if scores is None else torch.rand(scores.shape, generator=self.generator).to(scores)


def _reachable(plan: Plan, importance: _Floored, settings: Settings) -> float:
    """Return the ratio asked for, or the largest that is possible: torch-pruning keeps int(channels * (1 - ratio)).

    It does so in each layer if the ranking is uniform, else in all layers together. Hidden layers have no BatchNorm,
    so that ``bn_scale`` leaves them alone.
    """
    if settings.ranking == "uniform":
        return min(settings.ratio, settings.max_layer_ratio)
    convolutions = plan.widths[: len(plan.convolutions)]
    ranked = convolutions if settings.importance == "bn_scale" else plan.widths
    kept = sum(map(importance.floor, ranked)) + 0.5
    return min(settings.ratio, 1 - kept / sum(ranked))


def _accumulate_gradients(network: VGG, images: Split, batch: int) -> None:
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


def _current_plan(network: VGG) -> Plan:
    """Return the plan of a network whose layers have become narrower than its own plan says."""
    convolutions = [layer.out_channels for layer in network.convolutions]
    return network.plan.with_widths((*convolutions, *(layer.out_features for layer in network.linear_layers[:-1])))
