"""Which classes networks predict, image by image, as text and as arrays, and the accuracy of each class."""

import numpy as np

from src.core.errors import UserError


def as_text(classes: np.ndarray) -> str:
    """Return ``classes``, int [images] in 0..255, as text: two hexadecimal digits per image."""
    return classes.astype(np.uint8).tobytes().hex()


def from_text(text: str, images: int, origin: str) -> np.ndarray:
    """Return the classes that `as_text` wrote, uint8 [images].

    Raises `UserError`, which begins with ``origin``, if ``text`` is not two hexadecimal digits for each of ``images``.
    """
    try:
        classes = np.frombuffer(bytes.fromhex(text), np.uint8)
    except (ValueError, TypeError):
        classes = np.empty(0, np.uint8)
    if len(classes) != images:
        raise UserError(
            f"{origin}: expected the classes of {images} images, two hexadecimal digits each; run `dvc repro`"
        )
    return classes


def class_accuracies(correct: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the share of the images of each class that is classified correctly, float64 [classes].

    ``correct`` bool [images]; ``labels`` int [images], the true classes. NaN for a class without images.
    """
    right, images = (np.bincount(labels, weights, classes) for weights in (correct, None))
    return np.divide(right, images, out=np.full(classes, np.nan), where=images > 0)


def balanced_accuracy(correct: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of `class_accuracies` over the classes that have images; each class counts the same."""
    return float(np.nanmean(class_accuracies(correct, labels, int(labels.max()) + 1)))
