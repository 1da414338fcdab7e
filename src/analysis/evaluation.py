"""How good a network is: loss, accuracy, per-class figures, calibration, and its most confident mistakes.

Everything is computed from the logits of one split. Standard figures come from scikit-learn; only the calibration
error, which it does not have, is our own.
"""

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from pydantic import Field
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, top_k_accuracy_score
from torch import Tensor

from src.core.dataset import CLASSES
from src.core.params import Settings

CLASS_NUMBERS = np.arange(len(CLASSES))


class EvaluateSettings(Settings):
    """The section ``evaluate`` of params.yaml."""

    calibration_bins: int = Field(ge=1, le=1000)
    mistakes: int = Field(ge=1, le=200)


@dataclass(frozen=True)
class Predictions:
    """What a network says of N images, and what they are; on the CPU.

    ``probabilities``: float64 [N, classes]; ``labels``, ``predicted``: int64 [N]; ``confidence``: float64 [N], the
    probability of the predicted class; ``loss``: mean cross-entropy in nats.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    loss: float


@dataclass(frozen=True)
class Bin:
    """Predictions of like confidence: the bin's edges, mean confidence, share that is right, and their number."""

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


def predictions(logits: Tensor, labels: Tensor) -> Predictions:
    """Gather what follows from ``logits`` [N, classes] of images whose classes are ``labels`` (int64 [N])."""
    logits, labels = logits.cpu().double(), labels.cpu()
    probabilities = logits.softmax(1)
    confidence, predicted = probabilities.max(1)
    loss = float(F.cross_entropy(logits, labels))
    return Predictions(probabilities.numpy(), labels.numpy(), predicted.numpy(), confidence.numpy(), loss)


def summary(found: Predictions, bins: int) -> dict[str, float]:
    """Figures of a whole split: loss (nats), accuracy, error, top-2 accuracy, calibration error; shares in 0..1."""
    accuracy = float(accuracy_score(found.labels, found.predicted))
    return {
        "loss": found.loss,
        "accuracy": accuracy,
        "error_rate": 1 - accuracy,  # a key "error" would make `dvc metrics show` report a failure
        "top2_accuracy": float(top_k_accuracy_score(found.labels, found.probabilities, k=2, labels=CLASS_NUMBERS)),
        "expected_calibration_error": calibration_error(reliability(found, bins)),
    }


def per_class(found: Predictions) -> list[dict[str, float]]:
    """For each class in order: precision, recall, F1, accuracy (0 where there is nothing to divide by), images.

    The accuracy of a class is the share of its images that are classified right. That is its recall; it stands
    under both names because tables for CIFAR-10 call it accuracy.
    """
    figures = precision_recall_fscore_support(found.labels, found.predicted, labels=CLASS_NUMBERS, zero_division=0)
    return [
        {"precision": float(p), "recall": float(r), "f1": float(f), "accuracy": float(r), "images": int(n)}
        for p, r, f, n in zip(*figures, strict=True)
    ]


def reliability(found: Predictions, bins: int) -> list[Bin]:
    """The non-empty of ``bins`` bins of equal width in confidence, (0, 1/bins] first, (1 - 1/bins, 1] last."""
    edges = np.linspace(0, 1, bins + 1)
    number = np.clip(np.searchsorted(edges, found.confidence) - 1, 0, bins - 1)
    right = found.predicted == found.labels
    return [
        Bin(edges[b], edges[b + 1], found.confidence[number == b].mean(), right[number == b].mean(), count)
        for b, count in enumerate(np.bincount(number).tolist())
        if count
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: mean of |accuracy - confidence| over ``bins``, weighted by their counts.

    Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599), equation 3.
    """
    total = sum(one.count for one in bins)
    return float(sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / total)


def confident_mistakes(found: Predictions, count: int) -> np.ndarray:
    """Indices (int64) of at most ``count`` misclassified images, the most confident first, ties in order of index."""
    wrong = np.flatnonzero(found.predicted != found.labels)
    order = np.argsort(-found.confidence[wrong], kind="stable")
    return wrong[order[:count]]
