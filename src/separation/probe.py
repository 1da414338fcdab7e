"""Pooled features of layers, and the accuracy of a linear classifier on them (a linear probe)."""

import warnings
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.separation.checks import Array, as_labels, as_points, averaged
from src.separation.scores import Scores

ITERATIONS = 1000  # of the solver


class PooledKeeper:
    """A receiver of `stream` that keeps the activations of ``modules``, averaged over space.

    ``images``: their number in the stream; ``among``: the places of those that are kept, by default all. ``features``
    maps the name of each module to float32 [kept, C], on the CPU.
    """

    def __init__(self, images: int, modules: Collection[str], among: Tensor | None = None) -> None:
        self.modules, self.features = set(modules), dict[str, Tensor]()
        among = torch.arange(images) if among is None else among
        self.row = torch.full((images,), -1)
        self.row[among] = torch.arange(len(among))
        self.kept = len(among)

    def __call__(self, name: str, output: Tensor, index: Tensor) -> None:
        """Keep the wanted images of a batch."""
        if name not in self.modules:
            return
        pooled = averaged(output, name)
        if name not in self.features:
            self.features[name] = torch.zeros(self.kept, pooled.shape[1])
        wanted = self.row[index] >= 0
        self.features[name][self.row[index[wanted]]] = pooled.float().cpu()[wanted]


def linear_probe(x: Array, y: Array, test_x: Array, test_y: Array, c: float = 0.01) -> Scores:
    """Return the accuracy, image by image, on ``test_x`` of logistic regression fitted on ``x``.

    ``x``, ``test_x``: features [N, D] or [N, C, H, W]; ``y``, ``test_y``: integer labels [N]. The features are
    standardized by those of ``x``; ``c`` is scikit-learn's C. Raises ValueError on shapes that do not match, labels
    that are no class of ``y``, NaN or Inf, or a single class.
    """
    points, test_points = as_points(x), as_points(test_x, "test_x")
    if points.shape[1] != test_points.shape[1]:
        raise ValueError(f"test_x: found {test_points.shape[1]} values per image; wanted {points.shape[1]}, as in x")
    labels, classes = as_labels(y, len(points))
    if len(labels.unique()) == 1:
        raise ValueError(f"y: found class {int(labels[0])} alone; wanted at least two classes")
    test_labels, _ = as_labels(test_y, len(test_points), classes, "test_y")
    probe = _fitted(points.cpu().numpy(), labels.cpu().numpy(), c)
    correct = torch.from_numpy(probe.predict(test_points.cpu().numpy())) == test_labels.cpu()
    return Scores(correct.double(), torch.zeros_like(correct), test_labels.cpu(), classes)


def _fitted(features: np.ndarray, labels: np.ndarray, c: float) -> Any:
    """Return scikit-learn's classifier, fitted; it may stop before it has converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return probe.fit(features, labels)
