"""Prune channels: remove whole filters, the least important of the whole network first, and fine-tune.

The dependency graph is that of torch-pruning (Fang et al. 2023, arXiv:2301.12900). Which channels are important:
`src.compression.importance`.
"""

import copy
from typing import Literal

import torch
from pydantic import Field, model_validator

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.importance import ROUNDING, Floored, importance
from src.compression.technique import FineTuned
from src.compression.training import fine_tune
from src.data.prepared import Split
from src.network.folding import without_repeated_pool
from src.network.vgg import VGG, rebuild


class Settings(FineTuned):
    """How many channels to remove, which, and how to fine-tune afterwards."""

    ratio: float = Field(gt=0, lt=1)
    importance: Literal["magnitude", "taylor", "csi", "random"]
    draw: int = Field(ge=0)
    ranking: Literal["global", "uniform"]
    importance_images: int = Field(ge=1)
    importance_batch: int = Field(ge=1)
    round_to: int = Field(ge=1)
    max_layer_ratio: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _comparable(self) -> "Settings":
        if self.importance == "csi" and self.ranking == "global":
            raise ValueError("ranking must be uniform with importance csi, which ranks channels within a layer only")
        if self.importance == "csi" and self.importance_images == 1:
            raise ValueError("importance_images must be at least 2 with importance csi (found 1)")
        return self


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` without ``ratio`` of the channels of convolutions and hidden layers, fine-tuned."""
    dense = without_repeated_pool(candidate.network)
    pruned = prune(dense, context.sample(settings.importance_images), settings, context.seed)
    share = 1 - sum(pruned.plan.widths) / sum(dense.plan.widths)
    choice = f"random draw {settings.draw}" if settings.importance == "random" else settings.importance
    step = (
        f"removed {share:.1%} of the channels by {choice} "
        f"(validation accuracy before: {context.validation_accuracy(dense):.4f}), "
    )
    notes = ["the head's repeated pool was folded before channels were pruned"]
    repeated = candidate.network.plan.pooled_side > 1
    return fine_tune(candidate, pruned, step, context, settings, *(notes if repeated else ()), fold=True)


def prune(network: VGG, images: Split, settings: Settings, seed: int = 0) -> VGG:
    """Return ``network`` without its least important channels, as a new network that is not yet fine-tuned.

    Ranking ``global``: the least important channels of all layers go; importance is divided by its mean in each layer,
    so that layers of different scale compare. Ranking ``uniform``: every layer loses the same share, up to rounding, so
    that two importances meet at identical widths. Every layer keeps at least 1 - ``max_layer_ratio`` of its channels.
    ``seed`` and ``draw`` decide the random importance.
    """
    import torch_pruning as tp

    network = copy.deepcopy(network).eval()
    scored = importance(settings.importance, network, images, settings.importance_batch, seed + settings.draw)
    floored = Floored(scored, 1 - settings.max_layer_ratio, settings.round_to)
    layers, uniform = network.weighted_layers[:-1], settings.ranking == "uniform"
    kept = {layer: floored.floor(len(layer.weight)) for layer in layers}
    ratios = {layer: _ratio(settings.ratio, kept[layer], len(layer.weight)) for layer in layers}
    pruner = tp.pruner.BasePruner(
        network,
        torch.zeros(1, 3, network.plan.side, network.plan.side, device=network.mean.device),
        floored,
        global_pruning=not uniform,
        pruning_ratio=_ratio(settings.ratio, sum(kept.values()), sum(network.plan.widths)),
        pruning_ratio_dict=ratios if uniform else None,
        round_to=settings.round_to,
        ignored_layers=[network.classifier[-1]],
    )
    pruner.step()
    widths = tuple(len(layer.weight) for layer in layers)
    return rebuild(network.plan.with_widths(widths), network.state_dict())


def _ratio(ratio: float, kept: int, channels: int) -> float:
    """Return a ratio with which torch-pruning removes ``ratio`` of ``channels``, and leaves at least ``kept``.

    It leaves int(channels * (1 - ratio)): half a channel more keeps that number from rounding errors.
    """
    stay = max(kept, int(channels * (1 - ratio) + ROUNDING))
    return max(0.0, 1 - (stay + 0.5) / channels)
