"""Truncate: cut the network where its layers stop separating the classes, and fit a linear head."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from src.compression.candidate import Candidate, Context
from src.core.dataset import Split
from src.core.errors import UserError
from src.core.params import Settings as Schema
from src.network.inference import predict
from src.network.vgg import VGG, Plan

HEAD_ITERATIONS = 1000


class Settings(Schema):
    """How much CSI may be given up, and how free the head's weights are (scikit-learn's C: larger is freer)."""

    epsilon: float = Field(default=0.002, ge=0, lt=1)
    head_c: float = Field(default=0.01, gt=0)


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Cut after the layer that validation CSI names, pool, and fit a linear head on the training images."""
    index = context.csi[: len(candidate.network.plan.features)]
    last = cut(index, settings.epsilon)
    network = _truncated(candidate.network, last)
    _fit_head(network, context.train, settings.head_c)
    step = (
        f"cut after features.{len(network.features) - 1} (validation CSI {index[last]:.4f}, highest {max(index):.4f}), "
        f"linear head: validation accuracy {context.accuracy(network):.4f}, "
        f"before the cut {context.accuracy(candidate.network):.4f}"
    )
    whole = last == len(index) - 1
    notes = ("validation CSI is highest at the last layer: only the head was cut",) * whole
    return candidate.after(step, network, notes=notes)


def cut(csi: tuple[float, ...], epsilon: float) -> int:
    """Position of the first value of ``csi`` within ``epsilon`` of the highest.

    Cutting where the index first fails to rise by epsilon would let one flat layer cut a network whose index
    still rises later. Measured against the highest value, a cut never gives up more than epsilon.
    """
    return next(position for position, value in enumerate(csi) if value >= max(csi) - epsilon)


def feature_csi(plan: Plan, rows: Iterable[Mapping[str, Any]]) -> tuple[float, ...]:
    """Validation CSI after each item of ``plan.features`` (a convolution with its BatchNorm and ReLU, a pool).

    ``rows`` are those of plots/csi.csv for the network of ``plan``; `UserError` if they are of another.
    """
    validation = {row["layer"]: float(row["validation"]) for row in rows}
    try:
        return tuple(validation[f"features.{end - 1}"] for end in _ends(plan))
    except KeyError as error:
        raise UserError(f"plots/csi.csv: no row for layer {error}; run `dvc repro csi`") from None


def _ends(plan: Plan) -> list[int]:
    """How many modules of ``VGG(plan).features`` there are up to and with each item of the plan."""
    ends = [0]
    for layer in plan.features:
        ends.append(ends[-1] + (1 if layer == "pool" else 2 + layer.batch_norm))
    return ends[1:]


def _truncated(network: VGG, last: int) -> VGG:
    """``network`` up to item ``last`` of its plan, with an untrained linear head."""
    plan = network.plan.model_copy(update={"features": network.plan.features[: last + 1], "head": (), "pooled_side": 1})
    cut_off = VGG(plan, network.mean, network.std).to(network.mean.device)
    cut_off.features.load_state_dict(network.features[: _ends(plan)[-1]].state_dict())
    return cut_off.eval()


@torch.no_grad()
def _fit_head(network: VGG, train: Split, c: float) -> None:
    """Fit the head by logistic regression on the standardised pooled features; the scaling goes into its weights."""
    features = _pooled(network, train.images).cpu().numpy()
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=HEAD_ITERATIONS))
    scaler, regression = pipeline.fit(features, train.labels.cpu().numpy())
    weight = torch.from_numpy(regression.coef_ / scaler.scale_)
    head = network.classifier[-1]
    head.weight.copy_(weight)
    head.bias.copy_(torch.from_numpy(regression.intercept_) - weight @ torch.from_numpy(scaler.mean_))


def _pooled(network: VGG, images: Tensor) -> Tensor:
    """float32 [N, channels]: what the head of ``network`` sees of uint8 ``images`` [N, 3, 32, 32]."""
    headless = copy.deepcopy(network)
    headless.classifier = nn.Identity()
    return predict(headless, images)
