"""Augmented batches: what each holds follows from the seed and the number of its step alone."""

from functools import lru_cache

import torch
from torch import Tensor

from src.core.errors import ParamsError
from src.data.prepared import Split
from src.network.inference import to_unit
from src.training import parallel
from src.training.augment import Crops, cut_out, draw_centers, resize
from src.training.recipe import TrainRecipe, image_side

FLIP, ORDER, CROP, DROPOUT = range(4)  # streams of random numbers


class Batches:
    """The training batches of ``recipe`` over ``train``; under torchrun, this process's share of each.

    Images lie on ``device`` in memory, and every batch comes out there. The last images of an epoch's order that do
    not fill a batch are left out. Raises `ParamsError` for a batch that the processes cannot share.
    """

    def __init__(self, train: Split, recipe: TrainRecipe, seed: int, device: torch.device) -> None:
        self.recipe, self.seed, self.device = recipe, seed, device
        self.labels, self.full_side = train.labels, train.images.shape[-1]
        self.batch_size = min(recipe.batch_size, len(train))
        self.steps_per_epoch = len(train) // self.batch_size
        _check_shares(self.batch_size, recipe.accumulate)
        # Apple's devices cannot gather from overlapping views.
        self.crops = Crops(train.images.to("cpu" if device.type == "mps" else device), recipe.crop_padding)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images (float32 [n, 3, side, side] in 0..1) and labels (int64 [n]) of the run's ``step`` (from 0)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        chosen = _order(len(self.labels), self.seed, epoch)[position * self.batch_size :][: self.batch_size]
        flip = _flips(self.recipe.flip, len(self.labels), self.seed, epoch)[chosen]
        random = generator(self.seed, CROP, step)
        starts = self.crops.draw(chosen, flip, random)
        images = self.crops.cut(parallel.share(starts)).to(self.device)
        if self.recipe.cutout:
            centers = draw_centers(len(chosen), images.shape[-1], random)
            images = cut_out(images, parallel.share(centers), self.recipe.cutout)
        labels = self.labels[parallel.share(chosen)].to(self.device)
        return resize(to_unit(images), image_side(self.recipe, epoch, self.full_side)), labels


def _check_shares(batch_size: int, accumulate: int) -> None:
    parts = parallel.processes() * accumulate
    if batch_size % parts or batch_size < 2 * parts:  # BatchNorm needs two images
        raise ParamsError(
            f"params.yaml: batch_size {batch_size}: must be a multiple of processes x accumulate ({parts}) "
            "and hold two images for each"
        )


def less_memory(recipe: TrainRecipe, batch_size: int) -> str:
    """Return advice: the settings of ``recipe`` that compute ``batch_size`` images in smaller parts."""
    processes, ways = parallel.processes(), []
    parts = processes * recipe.accumulate
    if batch_size >= 4 * parts:
        ways.append(f"batch_size to {batch_size // parts // 2 * parts}")
    for more in range(recipe.accumulate + 1, batch_size // (2 * processes) + 1):
        if batch_size % (processes * more) == 0 and recipe.batch_size % more == 0:
            ways.append(f"accumulate to {more}, which computes each batch in smaller parts")
            break
    return f"set {', or '.join(ways)}" if ways else "the batches cannot be smaller; use a machine with more memory"


@lru_cache(maxsize=1)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    """Return the images in the order of ``epoch``: int64 [count]."""
    return torch.randperm(count, generator=generator(seed, ORDER, epoch))


@lru_cache(maxsize=1)
def _flips(how: str, count: int, seed: int, epoch: int) -> Tensor:
    """Return which images are flipped in ``epoch``: bool [count].

    ``never``: none. ``random``: each with probability 1/2. ``alternate``: in even epochs a random half, in odd
    epochs the other half.
    """
    if how == "never":
        return torch.zeros(count, dtype=torch.bool)
    coins = torch.rand(count, generator=generator(seed, FLIP, epoch if how == "random" else 0)) < 0.5
    return ~coins if how == "alternate" and epoch % 2 else coins


def generator(seed: int, stream: int, number: int) -> torch.Generator:
    """Return a CPU generator for the ``number``-th draw of ``stream``."""
    return torch.Generator().manual_seed(derived_seed(seed, stream, number))


def derived_seed(seed: int, stream: int, number: int) -> int:
    """Return a seed for the ``number``-th draw of ``stream``, one of eight independent streams."""
    return (seed * 8 + stream) * 1_000_003 + number
