"""How many directions a layer uses: effective rank, and the share of channels that are dead."""

import torch
from torch import Tensor

from src.separation.checks import Array, as_points


def effective_rank(x: Array) -> float:
    """Return the effective rank of features ``x`` [N, D] or [N, C, H, W], after subtracting their mean.

    It is exp of the entropy of the singular values divided by their sum (Roy & Vetterli 2007): D if all directions vary
    alike, 1 if only one varies, 0 if none does. Raises ValueError on another shape, NaN or Inf.
    """
    points = as_points(x).double()
    values = torch.linalg.svdvals(points - points.mean(0))
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp()) if values.sum() > 0 else 0.0


def dead_share(means: Tensor, channels: int) -> float:
    """Return the share of the layer's ``channels`` that are zero in ``means`` [K, positions x channels].

    ``means`` are the centers of the classes. After a ReLU these are the channels that are zero for every image at every
    place.
    """
    return float((means.view(len(means), -1, channels) == 0).all(1).all(0).double().mean())
