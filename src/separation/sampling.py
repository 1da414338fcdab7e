"""Choosing images by chance, so that every class has the same number, as far as it can."""

import torch
from torch import Tensor

from src.data.prepared import rank_in_class
from src.separation.checks import check_counts


def balanced(labels: Tensor, classes: int, per_class: int, seed: int) -> Tensor:
    """Return the places of ``per_class`` images of each class: int64 [classes x per_class], in order.

    ``labels``: int64 [N]; ``seed`` decides which images. Raises ValueError if a class has too few.
    """
    check_counts(torch.bincount(labels, minlength=classes), per_class, "labels")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = labels[order]
    return torch.cat([order[shuffled == number][:per_class] for number in range(classes)]).sort().values


def drawn(labels: Tensor, count: int, seed: int) -> Tensor:
    """Return the places of ``count`` images (all, if there are fewer), drawn by ``seed``: int64, in order.

    ``labels``: int64 [N]. Each class gets the same number of images, as far as it has that many.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    rank = torch.tensor(rank_in_class(labels[order].numpy()))
    return order[rank.sort(stable=True).indices[:count]].sort().values
