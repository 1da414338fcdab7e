"""Checks of what users pass in: each raises ValueError that names the argument, what was found and what is wanted."""

import numpy as np
import torch
from torch import Tensor

ROWS = 50  # checked at a time: small blocks of memory, which malloc reuses
FLAT, MAP = 2, 4  # dimensions of [N, D] and of [N, C, H, W]
Array = np.ndarray | Tensor


def as_points(x: Array, name: str = "x") -> Tensor:
    """Return the activations ``x`` as a floating tensor [N, D]; float32 and float64 stay what they are.

    ``x``: [N, D] or [N, C, H, W]. A map is flattened position by position: all channels of a place are neighbours.
    Raises ValueError for another shape, no image, or a value that is NaN or infinite.
    """
    points = flattened(torch.as_tensor(x), name)
    if not len(points):
        raise ValueError(f"{name}: found no image; wanted at least one")
    points = points if points.dtype in (torch.float32, torch.float64) else points.float()
    if not all(bool(part.isfinite().all()) for part in points.split(ROWS)):
        raise ValueError(f"{name}: found NaN or Inf; wanted finite numbers")
    return points


def flattened(x: Tensor, name: str = "x") -> Tensor:
    """Return ``x`` [N, D] or [N, C, H, W] as [N, D], maps position by position; no copy where maps are channels last.

    Raises ValueError for another number of dimensions.
    """
    return x if _is_flat(x, name) else x.permute(0, 2, 3, 1).flatten(1)


def averaged(x: Tensor, name: str = "x") -> Tensor:
    """Return ``x`` [N, C, H, W] averaged over space, [N, C], or [N, D] as it is.

    Raises ValueError for another number of dimensions.
    """
    return x if _is_flat(x, name) else x.mean((2, 3))


def _is_flat(x: Tensor, name: str) -> bool:
    if x.dim() not in (FLAT, MAP):
        raise ValueError(f"{name}: found shape {tuple(x.shape)}; wanted [N, D] or [N, C, H, W]")
    return x.dim() == FLAT


def as_labels(y: Array, images: int, classes: int | None = None, name: str = "y") -> tuple[Tensor, int]:
    """Return the labels ``y`` as int64 [N] and the number of classes; without ``classes`` it is the highest label + 1.

    Raises ValueError if they are not ``images`` integers between 0 and ``classes`` - 1.
    """
    labels = torch.as_tensor(y)
    if labels.shape != (images,):
        raise ValueError(f"{name}: found shape {tuple(labels.shape)}; wanted ({images},), a label for each image")
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"{name}: found {labels.dtype}; wanted integers")
    labels = labels.long()
    low, high = int(labels.min()), int(labels.max())
    classes = high + 1 if classes is None else classes
    if low < 0 or high >= classes:
        raise ValueError(f"{name}: found labels from {low} to {high}; wanted 0 to {classes - 1}")
    return labels, classes


def check_counts(counts: Tensor, wanted: int, name: str = "y") -> None:
    """Raise ValueError if a class has fewer than ``wanted`` images in ``counts`` [K]."""
    if int(counts.min()) < wanted:
        rarest = int(counts.argmin())
        raise ValueError(f"{name}: found {int(counts[rarest])} of class {rarest}; wanted at least {wanted} images")
