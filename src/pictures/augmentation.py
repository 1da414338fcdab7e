"""The picture of augmentation: training images, each beside random augmented versions of it."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.core.arrays import CLASSES, rank_in_class
from src.core.dataset import Split
from src.pictures.style import hide_ticks, new_figure
from src.training.augment import Crops

VERSIONS = 8
CELL = 0.9  # inches


def augmentation(shown: Split, padding: int, flipped: bool, seed: int, edition: str) -> Figure:
    """Return a figure with one row for each image of ``shown``: the original, then `VERSIONS` augmented versions.

    A version is a random crop of the image with ``padding`` zero pixels on each side. If ``flipped``, each version is
    also flipped left to right with probability 1/2. ``seed`` decides about crops and flips.
    """
    columns = [shown.images, *_augmented(shown.images, padding, flipped, seed)]
    figure = new_figure(CELL * (len(columns) + 1), CELL * (len(shown) + 1))
    flips = ", flipped or not" if flipped else ""
    figure.suptitle(
        f"CIFAR-10 ({edition} edition): training images and random augmentations\n"
        f"crops of the image with {padding} black pixels around it{flips}"
    )
    grid = figure.subplots(len(shown), len(columns), squeeze=False)
    for axes, images in zip(grid.T, columns, strict=True):
        for cell, image in zip(axes, images, strict=True):
            cell.imshow(image.permute(1, 2, 0).numpy())
            hide_ticks(cell)
    for cell, label in zip(grid[:, 0], shown.labels, strict=True):
        cell.set_ylabel(CLASSES[label], rotation=0, ha="right", va="center")
    grid[0, 0].set_title("original")
    grid[0, 1].set_title("augmented", loc="left")
    return figure


def _augmented(images: Tensor, padding: int, flipped: bool, seed: int) -> Sequence[Tensor]:
    """Return `VERSIONS` augmented versions of ``images`` [N, 3, 32, 32], each of the same shape."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.arange(len(images)).repeat(VERSIONS)
    flip = torch.rand(len(chosen), generator=generator) < (0.5 if flipped else 0)
    crops = Crops(images, padding)
    return crops.cut(crops.draw(chosen, flip, generator)).split(len(images))


def one_class_after_another(split: Split, count: int) -> Split:
    """Return ``count`` images of ``split``: the first image of each class, then the second of each, and so on."""
    labels = split.labels.numpy()
    order = np.lexsort((labels, rank_in_class(labels)))
    return split[torch.from_numpy(order[:count])]
