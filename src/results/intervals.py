"""Differences of two networks on the same images, with intervals, and the images on which they differ."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

UPPER = 0.975  # the quantile that leaves 2.5 % above an interval of 95 %


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies in percentage points, and its 95 % interval from ``low`` to ``high``."""

    points: float
    low: float
    high: float


def paired_difference(correct: np.ndarray, reference: np.ndarray) -> Difference:
    """Return by how many points the accuracy in ``correct`` is above that in ``reference``.

    Both are bool [images]: whether each image is classified correctly, the same images in the same order. The interval
    is the adjusted Wald interval of Bonett and Price (2012) for paired proportions: one image is added to those that
    get better, and one to those that get worse. So it has a width even if no image differs, and its middle is a little
    nearer to zero than ``points``. Raises ValueError if the two differ in shape or are empty.
    """
    if correct.shape != reference.shape or not correct.size:
        raise ValueError(f"found shapes {correct.shape} and {reference.shape}; wanted one shape, not empty")
    images, better, worse = correct.size, np.sum(correct & ~reference), np.sum(reference & ~correct)
    gain, loss = (better + 1) / (images + 2), (worse + 1) / (images + 2)
    half = stats.norm.ppf(UPPER) * np.sqrt((gain + loss - (gain - loss) ** 2) / (images + 2))
    low, high = np.clip([gain - loss - half, gain - loss + half], -1, 1)
    return Difference(*(100 * float(share) for share in ((better - worse) / images, low, high)))


def pooled_difference(correct: np.ndarray, reference: np.ndarray) -> Difference:
    """Return the difference of two recipes over several seeds; its interval covers other images and other seeds.

    Both are bool [seeds, images], as in `paired_difference`, with a row for each of two or more seeds. The variance of
    the mean is that over images, of the difference averaged over the seeds, plus that over seeds. The second rests on
    few values, so the interval is that of Student's t, with the degrees of freedom of Welch and Satterthwaite (1946).
    Raises ValueError if the two differ in shape, or have fewer than two seeds or images.
    """
    if correct.shape != reference.shape or min(correct.shape) < 2:
        wanted = "wanted one shape, at least two seeds and two images"
        raise ValueError(f"found shapes {correct.shape} and {reference.shape}; {wanted}")
    points = 100 * (correct.astype(float) - reference)
    seeds, images = points.shape
    over_images = points.mean(axis=0).var(ddof=1) / images
    over_seeds = points.mean(axis=1).var(ddof=1) / seeds
    variance = over_images + over_seeds
    freedom = variance**2 / (over_images**2 / (images - 1) + over_seeds**2 / (seeds - 1)) if variance else images - 1
    half = float(stats.t.ppf(UPPER, freedom) * np.sqrt(variance))
    mean = float(points.mean())
    return Difference(mean, mean - half, mean + half)


def verdict(difference: Difference, margin: float) -> str:
    """Return whether a loss of more than ``margin`` points is excluded, by the interval of ``difference``.

    "inside": the whole interval lies above -margin, so that the loss is smaller; "outside": the whole interval lies
    below, so that it is larger; "not decided": -margin is in the interval.
    """
    if difference.low > -margin:
        return "inside"
    return "outside" if difference.high < -margin else "not decided"


def flips(correct: np.ndarray, reference: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return how many images of each class become wrong, and how many become right: int64 [classes, 2].

    ``correct`` and ``reference`` as in `paired_difference`; ``labels`` int [images], the true classes.
    """
    lost = np.bincount(labels[reference & ~correct], minlength=classes)
    gained = np.bincount(labels[correct & ~reference], minlength=classes)
    return np.stack([lost, gained], axis=1)
