"""What augmentation does: originals beside what training may see of them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.augment import Crops
from src.cifar10 import rank_in_class
from src.dataset import CLASSES, Split
from src.pictures.style import hide_ticks, new_figure, save_figure

VERSIONS = 8
PADDING = 4  # the default of crop_padding in a training recipe
CELL = 0.9  # inches


def draw_augmentation(path: Path, train: Split, count: int, seed: int, edition: str) -> None:
    """Write to ``path`` a row for each of ``count`` images of ``train``, the classes in turn.

    A row is the original and `VERSIONS` augmented versions of it; ``seed`` decides which.
    Raises `UserError` if ``path`` cannot be written.
    """
    shown = train[one_class_after_another(train.labels, count)]
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.arange(len(shown)).repeat(VERSIONS)
    mirror = torch.rand(len(chosen), generator=generator) < 0.5
    crops = Crops(shown.images, PADDING)
    columns = [shown.images, *crops.cut(crops.draw(chosen, mirror, generator)).split(len(shown))]
    figure = new_figure(CELL * (len(columns) + 1), CELL * (count + 1))
    figure.suptitle(
        f"CIFAR-10 ({edition} edition): training images and random augmentations\n"
        f"crop of the image padded by {PADDING} black pixels, mirrored or not"
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
    save_figure(figure, path)


def one_class_after_another(labels: Tensor, count: int) -> Tensor:
    """Indices of ``count`` of the images with ``labels`` [N]: the first of each class, then the second of each."""
    order = np.lexsort((labels.numpy(), rank_in_class(labels.numpy())))
    return torch.from_numpy(order[:count])
