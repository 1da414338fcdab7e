"""Pictures of a training: its images, each beside random augmented versions of it, and the run, epoch by epoch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from src.data.prepared import DatasetInfo, Split, rank_in_class
from src.pictures.style import COLORS, SPLIT_COLORS, hide_ticks, new_figure, short, titled
from src.results.curves import Curves, epoch_of_target
from src.training.augment import Crops, cut_out, draw_centers

VERSIONS = 8
CELL = 0.9  # inches
SPLITS = {"train": "train", "validation": "val"}  # and their names among the curves


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


def training(curves: Curves, reference: Curves, target: float, info: DatasetInfo) -> Figure:
    """Return a figure of the run ``curves``, with a line at the validation accuracy ``target``.

    ``curves`` are those of `src.results.curves.read_curves`. ``reference`` holds ``train_accuracy`` and
    ``val_accuracy`` of another run, which is drawn in gray; it may be empty.
    """
    figure = new_figure(12, 6.5)
    figure.suptitle(titled("Training", info))
    (losses, accuracies), (rates, sizes) = figure.subplots(2, 2, height_ratios=[3, 1])
    _draw_losses(losses, curves)
    _draw_accuracies(accuracies, curves, reference, target)
    _line(rates, curves["step"], curves["learning_rate"], None, COLORS["purple"])
    rates.set(title="Learning rate at the end of each epoch", ylabel="learning rate", ylim=(0, None))
    _line(sizes, curves["step"], curves["image_size"], None, COLORS["black"], drawstyle="steps-mid")
    sides = sorted({0, *curves["image_size"]})
    sizes.set(title="Training image size", ylabel="side (pixels)", ylim=(0, 1.125 * sides[-1]), yticks=sides)
    return figure


def _draw_losses(axes: Axes, curves: Curves) -> None:
    for split, name in SPLITS.items():
        _line(axes, curves["step"], curves[f"{name}/loss"], split, SPLIT_COLORS[split])
    axes.set(title="Loss (train: augmented and label-smoothed as the recipe says)", ylabel="mean cross-entropy (nats)")
    axes.legend(loc="upper right")


def _draw_accuracies(axes: Axes, curves: Curves, reference: Curves, target: float) -> None:
    for split, name in SPLITS.items():
        _line(axes, curves["step"], curves[f"{name}/accuracy"], split, SPLIT_COLORS[split])
    for split, name in SPLITS.items() if reference else ():
        values, style = reference[f"{name}_accuracy"], ":" if split == "train" else "-"
        label, epochs = f"original study, {split}", range(1, len(values) + 1)
        _line(axes, epochs, values, label, COLORS["gray"], linestyle=style, alpha=0.55, marker="")
    epoch = epoch_of_target(curves, target)
    reached = "not reached" if epoch is None else f"reached in epoch {epoch}"
    label = f"target {target:.2f} ({reached})"
    axes.axhline(target, linestyle="--", color=COLORS["red"], label=label)
    axes.set(title="Accuracy", ylabel="accuracy (share correct)", ylim=(None, 1.02))
    axes.legend(loc="lower right")


def _line(
    axes: Axes, epochs: Sequence[float], values: Sequence[float], label: str | None, color: str, **style: Any
) -> None:
    axes.plot(epochs, values, label=label, color=color, **{"marker": ".", **style})
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
