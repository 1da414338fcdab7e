"""How good a network is: loss, accuracy, figures per class, calibration, most confident mistakes.

Everything is computed from the logits of one split. The figures come from scikit-learn, except the calibration error,
which scikit-learn does not have.
"""

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from pydantic import Field
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, top_k_accuracy_score
from torch import Tensor

from src.core.params import Settings
from src.results.accuracy import balanced_accuracy


class EvaluateSettings(Settings):
    """The section ``evaluate`` of params.yaml."""

    calibration_bins: int = Field(ge=1, le=1000)
    mistakes: int = Field(ge=1, le=200)


@dataclass(frozen=True)
class Predictions:
    """What a network predicts for N images, and their true classes, as NumPy arrays.

    ``probabilities``: float64 [N, classes]; ``labels`` (true) and ``predicted``: int64 [N]; ``confidence``: float64
    [N], the probability of the predicted class; ``loss``: mean cross-entropy in nats.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    loss: float


@dataclass(frozen=True)
class Bin:
    """Predictions whose confidence lies between ``low`` and ``high``.

    ``confidence``: their mean confidence; ``accuracy``: the share that is correct; ``count``: their number.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


def predictions(logits: Tensor, labels: Tensor) -> Predictions:
    """Return the predictions for images with ``logits`` [N, classes] and true classes ``labels`` (int64 [N])."""
    logits, labels = logits.cpu().double(), labels.cpu()
    probabilities = logits.softmax(1)
    confidence, predicted = probabilities.max(1)
    loss = float(F.cross_entropy(logits, labels))
    return Predictions(probabilities.numpy(), labels.numpy(), predicted.numpy(), confidence.numpy(), loss)


def split_metrics(scored: Predictions, bins: int) -> dict[str, float]:
    """Return the figures of a whole split: loss, accuracies, error rate, top-2 accuracy, calibration errors.

    The loss is in nats, the others are shares in 0..1. Balanced accuracy is the mean over classes. ``bins`` is the
    number of bins of the calibration errors: bins of equal width in confidence, and bins of the same number of images.
    """
    accuracy = float(accuracy_score(scored.labels, scored.predicted))
    return {
        "loss": scored.loss,
        "accuracy": accuracy,
        "error_rate": 1 - accuracy,  # `dvc metrics show` takes a key named "error" for a failure
        "top2_accuracy": _top2_accuracy(scored),
        "expected_calibration_error": calibration_error(reliability(scored, bins)),
        "calibration_error_equal_mass": calibration_error(equal_mass(scored, bins)),
        "balanced_accuracy": balanced_accuracy(scored.predicted == scored.labels, scored.labels),
    }


def _top2_accuracy(scored: Predictions) -> float:
    classes = scored.probabilities.shape[1]
    if classes == 2:  # scikit-learn wants other scores for two classes
        return 1.0
    return float(top_k_accuracy_score(scored.labels, scored.probabilities, k=2, labels=np.arange(classes)))


def per_class(scored: Predictions) -> list[dict[str, float]]:
    """Return precision, recall, F1, accuracy and number of images per class, in the order of the classes.

    A figure whose denominator is 0 is 0. The accuracy of a class, the share of its images that are classified
    correctly, is its recall; both names are used, because tables of image classifiers call it accuracy.
    """
    numbers = np.arange(scored.probabilities.shape[1])
    figures = precision_recall_fscore_support(scored.labels, scored.predicted, labels=numbers, zero_division=0)
    return [
        {"precision": float(p), "recall": float(r), "f1": float(f), "accuracy": float(r), "images": int(n)}
        for p, r, f, n in zip(*figures, strict=True)
    ]


def reliability(scored: Predictions, bins: int) -> list[Bin]:
    """Return the predictions grouped by confidence into ``bins`` bins of equal width, without the empty bins.

    The first bin is (0, 1/bins], the last one (1 - 1/bins, 1].
    """
    edges = np.linspace(0, 1, bins + 1)
    confidence, correct = scored.confidence, scored.predicted == scored.labels
    number = np.clip(np.searchsorted(edges, confidence) - 1, 0, bins - 1)
    return [
        Bin(edges[b], edges[b + 1], confidence[number == b].mean(), correct[number == b].mean(), count)
        for b, count in enumerate(np.bincount(number).tolist())
        if count
    ]


def equal_mass(scored: Predictions, bins: int) -> list[Bin]:
    """Return the predictions grouped by confidence into ``bins`` bins of the same number of images, give or take one.

    With fewer images than bins each image has its own. Nguyen and O'Connor 2015, "Posterior calibration and
    exploratory analysis for natural language processing models" (arXiv:1508.05154), section 2.
    """
    confidence, correct = scored.confidence, scored.predicted == scored.labels
    order = np.argsort(confidence, kind="stable")
    return [
        Bin(confidence[b[0]], confidence[b[-1]], confidence[b].mean(), correct[b].mean(), len(b))
        for b in np.array_split(order, min(bins, len(order)))
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Return the expected calibration error: the mean of |accuracy - confidence| over ``bins``, weighted by count.

    Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599), equation 3.
    """
    total = sum(b.count for b in bins)
    return float(sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / total)


def confident_mistakes(scored: Predictions, count: int) -> np.ndarray:
    """Return the indices (int64) of the ``count`` most confident mistakes, or of all; equal ones keep their order."""
    wrong = np.flatnonzero(scored.predicted != scored.labels)
    order = np.argsort(-scored.confidence[wrong], kind="stable")
    return wrong[order[:count]]
