"""What an index returns: a credit per image, its paired error, and where along a network it stops rising."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 1e-6  # of the values in tables


@dataclass(frozen=True)
class Scores:
    """An index of one layer, image by image.

    ``credits``: float64 [N] in 0..1, 1 where the image lies with its own class; ``tied``: bool [N], whether several
    classes or neighbours were equally near; ``labels``: int64 [N]; ``classes``: their number.
    """

    credits: Tensor
    tied: Tensor
    labels: Tensor
    classes: int

    @property
    def value(self) -> float:
        """The index: the mean credit."""
        return float(self.credits.mean())

    @property
    def tie_rate(self) -> float:
        """The share of tied images."""
        return float(self.tied.double().mean())

    def by_class(self) -> Tensor:
        """Return the mean credit of the images of each class, float64 [K]; NaN for a class without images."""
        sums = torch.zeros(self.classes, dtype=torch.float64, device=self.credits.device)
        counts = torch.bincount(self.labels, minlength=self.classes)
        return sums.index_add_(0, self.labels, self.credits) / counts


def paired_error(first: Scores, second: Scores) -> float:
    """Return the standard error of the difference of two indices on the same images in the same order.

    Two layers, or two protocols, often agree on an image, so this error is smaller than that of two independent
    samples. NaN for one image. Raises ValueError if the labels differ.
    """
    if not torch.equal(first.labels, second.labels):
        raise ValueError("second: found other labels than in first; wanted the same images in the same order")
    differences = first.credits - second.credits
    return float(differences.std()) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan


def first_within(values: Sequence[float], epsilon: float) -> int:
    """Return where a score stops rising: the index of the first of ``values`` at most ``epsilon`` below the highest.

    ``values`` are means over the same images, by position or layer, so the difference of two of them is a paired one;
    `paired_error` is its standard error. ``epsilon``, in the same unit, is what the user gives up for an earlier
    position. A flat stretch before a later rise is not the end. Raises ValueError if there is no value, or one that is
    not finite.
    """
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"values: found {list(values)}; wanted finite numbers, at least one")
    highest = max(values)
    return next(index for index, value in enumerate(values) if highest - value <= epsilon + ROUNDING)
