"""Prune channels: take whole filters away, the least important of the whole network first, and fine-tune."""

import copy
import math
from typing import Literal

import torch
import torch.nn.functional as F
import torch_pruning as tp
from pydantic import Field, model_validator
from torch import Tensor, nn

from src.compression.candidate import Candidate, Context, rebuild
from src.core.dataset import Split
from src.core.errors import ParamsError
from src.core.params import Settings as Schema
from src.network.inference import to_unit
from src.network.vgg import VGG, Conv, Plan
from src.techniques.fold import has_batch_norm, without_repeated_pool
from src.training.loop import fit
from src.training.schedule import Phase, TrainRecipe, check_parts

GRADIENT_BATCH = 100  # images
IMPORTANCES = {
    "magnitude": tp.importance.GroupMagnitudeImportance,
    "taylor": tp.importance.GroupTaylorImportance,
    "bn_scale": tp.importance.BNScaleImportance,
}


class FineTune(Schema):
    """How to train on after channels are gone; as a recipe of ``train.recipes``, at full image size."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(default=250, ge=2)
    accumulate: int = Field(default=1, ge=1)
    optimizer: Literal["sgd", "muon"] = "muon"
    momentum: float = Field(default=0.8, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    lr_peak: float = Field(default=0.005, gt=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> "FineTune":
        check_parts(self.batch_size, self.accumulate)
        return self

    @property
    def recipe(self) -> TrainRecipe:
        """The training recipe: a tenth of the epochs to rise from a tenth of the peak, then down to zero."""
        shared = self.model_dump(exclude={"epochs"})
        return TrainRecipe(
            phases=[Phase(size=32, epochs=self.epochs)],
            lr_start=self.lr_peak / 10,
            warmup_epochs=self.epochs / 10,
            anneal="linear",
            mirror="alternate",
            **shared,
        )


class Settings(Schema):
    """How many channels to take, which, and how to mend the network afterwards."""

    ratio: float = Field(gt=0, lt=1)
    importance: Literal["magnitude", "taylor", "bn_scale"] = "taylor"
    importance_images: int = Field(default=1000, ge=1)
    round_to: int = Field(default=8, ge=1)
    max_layer_ratio: float = Field(default=0.9, gt=0, lt=1)
    fine_tune: FineTune


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Take ``ratio`` of all channels of convolutions and hidden layers away, and fine-tune what is left."""
    repeated = candidate.network.plan.pooled_side > 1
    dense = without_repeated_pool(candidate.network)
    pruned = prune(dense, context.sample(settings.importance_images), settings)
    before = context.accuracy(pruned)
    tuned, history = fit(
        pruned, context.train, context.validation, settings.fine_tune.recipe, context.seed, context.reporter
    )
    step = (
        f"took {1 - channels(pruned.plan) / channels(dense.plan):.1%} of the channels by {settings.importance}, "
        f"fine-tuned {len(history)} epochs: validation accuracy {history[-1]['val/accuracy']:.4f}, "
        f"before the fine-tuning {before:.4f}, before the pruning {context.accuracy(dense):.4f}"
    )
    notes = ("the head's repeated pool was folded before channels were pruned",) * repeated
    return candidate.after(step, tuned.eval(), notes=notes)


def prune(network: VGG, images: Split, settings: Settings) -> VGG:
    """``network`` without its least important channels, not yet fine-tuned.

    The ranking is global (torch-pruning, arXiv:2301.12900); importance is divided by its mean in each layer, so
    that layers of different scale compare. Every layer keeps at least 1 - ``max_layer_ratio`` of its channels.
    Raises `ParamsError` for ``bn_scale`` where BatchNorm has been folded.
    """
    if settings.importance == "bn_scale" and not has_batch_norm(network):
        raise ParamsError("params.yaml: compress.recipes: prune_channels by bn_scale must come before fold")
    network = copy.deepcopy(network).eval()
    if settings.importance == "taylor":
        _accumulate_gradients(network, images)
    importance = _Floored(IMPORTANCES[settings.importance](), settings)
    pruner = tp.pruner.BasePruner(
        network,
        torch.zeros(1, 3, 32, 32, device=network.mean.device),
        importance,
        global_pruning=True,
        pruning_ratio=_reachable(network.plan, importance, settings),
        round_to=settings.round_to,
        ignored_layers=[network.classifier[-1]],
    )
    pruner.step()
    return rebuild(_plan_of(network), network.state_dict())


def widths(plan: Plan) -> tuple[int, ...]:
    """Channels of each convolution, then of each hidden layer of the head."""
    return (*(layer.channels for layer in plan.convolutions), *plan.head)


def channels(plan: Plan) -> int:
    """Number of channels that could be taken: those of convolutions and hidden layers."""
    return sum(widths(plan))


class _Floored:
    """An importance that puts the best channels of each layer out of reach.

    torch-pruning itself checks ``max_pruning_ratio`` only before a step, and rounds down to no channel at all.
    """

    def __init__(self, importance: tp.importance.Importance, settings: Settings) -> None:
        self.importance = importance
        self.share, self.multiple = 1 - settings.max_layer_ratio, settings.round_to

    def floor(self, width: int) -> int:
        """Channels to keep of ``width``: at least the share, in whole multiples."""
        return min(width, math.ceil(width * self.share / self.multiple) * self.multiple)

    def __call__(self, group: tp.Group) -> Tensor | None:
        """Scores [channels] of one layer's channels, infinite for those that stay; None where all stay."""
        scores = self.importance(group)
        if scores is not None:
            scores[scores.topk(self.floor(len(scores))).indices] = math.inf
        return scores


def _reachable(plan: Plan, importance: _Floored, settings: Settings) -> float:
    """The ratio asked for, or the largest there is: torch-pruning keeps int(channels * (1 - ratio)).

    Hidden layers have no BatchNorm, so that ``bn_scale`` leaves them alone.
    """
    ranked = [layer.channels for layer in plan.convolutions] if settings.importance == "bn_scale" else widths(plan)
    kept = sum(map(importance.floor, ranked)) + 0.5
    return min(settings.ratio, 1 - kept / sum(ranked))


def _accumulate_gradients(network: VGG, images: Split) -> None:
    """Put the gradient of the summed loss over ``images`` into the parameters."""
    network.zero_grad()
    for pixels, labels in zip(images.images.split(GRADIENT_BATCH), images.labels.split(GRADIENT_BATCH), strict=True):
        F.cross_entropy(network(to_unit(pixels)), labels, reduction="sum").backward()


def _plan_of(network: VGG) -> Plan:
    """The plan of a network whose layers have become narrower than its own plan says."""
    left = iter(network.convolutions)
    features = tuple(
        layer.model_copy(update={"channels": next(left).out_channels}) if isinstance(layer, Conv) else layer
        for layer in network.plan.features
    )
    linear = [module.out_features for module in network.classifier if isinstance(module, nn.Linear)]
    return network.plan.model_copy(update={"features": features, "head": tuple(linear[:-1])})
