"""Differences of two networks on the same images, with intervals, and the images on which they differ."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 10_000
COVERED = (2.5, 97.5)  # percentiles: an interval of 95 %


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies in percentage points, and its 95 % interval from ``low`` to ``high``."""

    points: float
    low: float
    high: float


def paired_difference(correct: np.ndarray, reference: np.ndarray, seed: int = 0) -> Difference:
    """Return by how many points the accuracy in ``correct`` is above that in ``reference``.

    Both are bool [images]: whether each image is classified correctly, the same images in the same order. The interval
    is the percentile bootstrap over images (Efron 1979), with the pairs kept together: the images are drawn again with
    replacement 10,000 times. Only the number of images with each outcome (worse, equal, better) matters for the mean,
    and these numbers are multinomial. Where a bound is 0 because no image gets worse, or none better, it becomes the
    share that may do so all the same: 3.7 of N images (Clopper and Pearson 1934). The same ``seed`` gives the same
    interval. Raises ValueError if the two differ in shape or are empty.
    """
    if correct.shape != reference.shape or not correct.size:
        raise ValueError(f"found shapes {correct.shape} and {reference.shape}; wanted one shape, not empty")
    images = correct.size
    better, worse = np.sum(correct & ~reference), np.sum(reference & ~correct)
    shares = np.array([better, worse, images - better - worse]) / images
    drawn = np.random.default_rng(seed).multinomial(images, shares, RESAMPLES)
    low, high = np.percentile(100 * (drawn[:, 0] - drawn[:, 1]) / images, COVERED)
    unseen = 100 * (1 - 0.025 ** (1 / images))
    low = -unseen if low == 0 and not worse else low
    high = unseen if high == 0 and not better else high
    return Difference(float(100 * (better - worse) / images), float(low), float(high))


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
    half = float(stats.t.ppf(COVERED[1] / 100, freedom) * np.sqrt(variance))
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
