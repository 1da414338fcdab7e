"""What augmentation does: originals beside what training may see of them."""

import numpy as np
import torch
from matplotlib.figure import Figure

from src.core.dataset import CLASSES, Split
from src.data.cifar10 import rank_in_class
from src.pictures.style import hide_ticks, new_figure
from src.training.augment import Crops

VERSIONS = 8
CELL = 0.9  # inches


def augmentation(shown: Split, padding: int, mirrored: bool, seed: int, edition: str) -> Figure:
    """A row for each image of ``shown``: the original and `VERSIONS` augmented versions of it; ``seed`` decides which.

    Crops of the image with ``padding`` zero pixels on each side, half of them mirrored if ``mirrored``.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.arange(len(shown)).repeat(VERSIONS)
    mirror = torch.rand(len(chosen), generator=generator) < (0.5 if mirrored else 0)
    crops = Crops(shown.images, padding)
    columns = [shown.images, *crops.cut(crops.draw(chosen, mirror, generator)).split(len(shown))]
    figure = new_figure(CELL * (len(columns) + 1), CELL * (len(shown) + 1))
    figure.suptitle(
        f"CIFAR-10 ({edition} edition): training images and random augmentations\n"
        f"crops of the image with {padding} black pixels around it{', mirrored or not' * mirrored}"
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


def one_class_after_another(split: Split, count: int) -> Split:
    """``count`` images of ``split``: the first of each class, then the second of each, and so on."""
    labels = split.labels.numpy()
    order = np.lexsort((labels, rank_in_class(labels)))
    return split[torch.from_numpy(order[:count])]
