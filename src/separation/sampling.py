"""Random samples in which every class has the same number of images, where it has enough."""

import torch
from torch import Tensor

from src.data.prepared import rank_in_class


def drawn(labels: Tensor, count: int, seed: int) -> Tensor:
    """Return the places of ``count`` images (all, if there are fewer), drawn by ``seed``: int64, in order.

    ``labels``: int64 [N]. Each class gets the same number of images, as far as it has that many.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    rank = torch.tensor(rank_in_class(labels[order].numpy()))
    return order[rank.sort(stable=True).indices[:count]].sort().values
