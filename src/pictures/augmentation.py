"""The picture of augmentation: training images, each beside random augmented versions of it."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.data.prepared import DatasetInfo, Split, rank_in_class
from src.pictures.style import hide_ticks, new_figure, short, titled
from src.training.augment import Crops, cut_out, draw_centers

VERSIONS = 8
CELL = 0.9  # inches


def augmentation(shown: Split, padding: int, flipped: bool, seed: int, info: DatasetInfo, cutout: int = 0) -> Figure:
    """Return a figure with one row for each image of ``shown``: the original, then `VERSIONS` augmented versions.

    A version is a random crop of the image with ``padding`` zero pixels on each side. If ``flipped``, each version is
    also flipped left to right with probability 1/2. ``cutout``: side in pixels of a black square at a random place, 0
    for none. ``seed`` decides about crops, flips and squares.
    """
    columns = [shown.images, *_augmented(shown.images, padding, flipped, seed, cutout)]
    figure = new_figure(CELL * (len(columns) + 1), CELL * (len(shown) + 1))
    flips = ", flipped or not" if flipped else ""
    squares = f", with a black square of {cutout} pixels" if cutout else ""
    hint = f"Crops of the image with {padding} black pixels around it{flips}{squares}"
    figure.suptitle(titled("Training images and random augmentations", info, hint))
    grid = figure.subplots(len(shown), len(columns), squeeze=False)
    for axes, images in zip(grid.T, columns, strict=True):
        for cell, image in zip(axes, images, strict=True):
            cell.imshow(image.permute(1, 2, 0).numpy())
            hide_ticks(cell)
    for cell, label in zip(grid[:, 0], shown.labels, strict=True):
        cell.set_ylabel(short(info.classes[label]), rotation=0, ha="right", va="center")
    grid[0, 0].set_title("original")
    grid[0, 1].set_title("augmented", loc="left")
    return figure


def _augmented(images: Tensor, padding: int, flipped: bool, seed: int, cutout: int) -> Sequence[Tensor]:
    """Return `VERSIONS` augmented versions of ``images`` [N, 3, side, side], each of the same shape."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.arange(len(images)).repeat(VERSIONS)
    flip = torch.rand(len(chosen), generator=generator) < (0.5 if flipped else 0)
    crops = Crops(images, padding)
    versions = crops.cut(crops.draw(chosen, flip, generator))
    if cutout:
        versions = cut_out(versions, draw_centers(len(versions), versions.shape[-1], generator), cutout)
    return versions.split(len(images))


def one_class_after_another(split: Split, count: int) -> Split:
    """Return ``count`` images of ``split``: the first image of each class, then the second of each, and so on."""
    labels = split.labels.numpy()
    order = np.lexsort((labels, rank_in_class(labels)))
    return split[torch.from_numpy(order[:count])]
