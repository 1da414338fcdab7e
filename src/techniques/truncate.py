"""Truncate: cut the network where its layers stop separating the classes, and fit a linear head.

The idea is that of Saffar, Kalhor, Habibnia 2024 (doi 10.1038/s41598-024-68172-6), here by CSI on validation, or by the
validation accuracy of a linear probe.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import TechniqueSettings
from src.core.errors import UserError
from src.core.recipes import Epsilon
from src.data.prepared import Split
from src.network.inference import predict
from src.network.vgg import VGG, Plan
from src.separation.scores import first_within

HEAD_ITERATIONS = 1000
NAMES = {"csi": "validation CSI", "probe": "validation accuracy of the probe"}
SEPARATES_AS_ROOT = {"keep", "fold"}  # techniques after which each layer computes what it computed in the root


class Settings(TechniqueSettings):
    """Which score decides, how much of it may be given up, and scikit-learn's C of the head (larger: less regularized).

    ``by``: CSI on validation, or the validation accuracy of a linear probe. The cut is at the first position at most
    ``epsilon`` below the highest score (`src.separation.scores.first_within`).
    """

    by: Literal["csi", "probe"]
    epsilon: Epsilon
    head_c: float = Field(gt=0)

    def objection(self, ancestors: Sequence[str]) -> str | None:
        """Return why not to truncate, if the separation of the parent's layers was not measured."""
        others = [step for step in ancestors if step not in SEPARATES_AS_ROOT]
        if not others:
            return None
        return f"truncate cannot follow {others[0]}: the separation of the layers is measured on the root network alone"


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` cut after the block that the score names, pooled, with a linear head.

    The head is fitted on the training images. Raises `UserError` if the separation is that of another network.
    """
    plan = candidate.network.plan
    scores, name = _scores(plan, context.separation, settings.by), NAMES[settings.by]
    last = first_within(scores, settings.epsilon)
    network = _truncated(candidate.network, last)
    converged = _fit_head(network, context.train, settings.head_c)
    step = (
        f"cut after {plan.features[last].name} ({name} {scores[last]:.4f}, highest {max(scores):.4f}), linear head: "
        f"validation accuracy {context.validation_accuracy(candidate.network):.4f} -> "
        f"{context.validation_accuracy(network):.4f}"
    )
    notes = []
    if last == len(scores) - 1:
        notes.append(f"{name} is highest at the last block: only the head was cut")
    if not converged:
        notes.append(f"the head's solver stopped after {HEAD_ITERATIONS} iterations before it converged")
    return candidate.after(step, network, *notes, fold=True)


def _scores(plan: Plan, separation: Mapping[str, Mapping[str, float]], by: str) -> list[float]:
    """Return the score ``by`` at the end of each block of ``plan``."""
    known = separation.get(by, {})
    try:
        return [known[block.name] for block in plan.features]
    except KeyError as error:
        raise UserError(f"plots/positions.csv: no {by} for block {error}; run `dvc repro csi`") from None


def _truncated(network: VGG, last: int) -> VGG:
    """Return ``network`` up to block ``last`` of its plan, with an untrained linear head."""
    plan = network.plan.model_copy(update={"features": network.plan.features[: last + 1], "head": (), "pooled_side": 1})
    cut_off = VGG(plan, network.mean, network.std).to(network.mean.device)
    cut_off.features.load_state_dict(network.features[: plan.module_ends()[-1]].state_dict())
    return cut_off.eval()


@torch.no_grad()
def _fit_head(network: VGG, train: Split, c: float) -> bool:
    """Fit the head by logistic regression on standardized pooled features; return whether the solver converged.

    The standardization goes into the weights of the head.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    features = _pooled(network, train.images).cpu().numpy()
    scaler, regression = StandardScaler(), LogisticRegression(C=c, max_iter=HEAD_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(scaler.fit_transform(features), train.labels.cpu().numpy())
    coefficients, intercept = regression.coef_, regression.intercept_
    if len(coefficients) == 1:  # of two classes scikit-learn has one logit, that of the second
        coefficients, intercept = (np.concatenate([-each, each]) / 2 for each in (coefficients, intercept))
    weight = coefficients / scaler.scale_
    head = network.linear_layers[-1]
    head.weight.copy_(torch.from_numpy(weight))
    head.bias.copy_(torch.from_numpy(intercept - weight @ scaler.mean_))
    return bool(regression.n_iter_.max() < HEAD_ITERATIONS)


def _pooled(network: VGG, images: Tensor) -> Tensor:
    """Return what the head of ``network`` sees of uint8 ``images`` [N, 3, side, side]: float32 [N, channels]."""
    headless = copy.deepcopy(network)
    headless.classifier = nn.Sequential()
    return predict(headless, images)
