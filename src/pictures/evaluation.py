"""Pictures of what a network gets right and wrong: confusion, classes, calibration, mistakes."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import confusion_matrix

from src.analysis.evaluation import Bin, Predictions, calibration_error
from src.core.dataset import CLASSES, SPLITS, Split, SplitName
from src.pictures.style import COLOURS, MAP, SPLIT_COLOURS, hide_ticks, new_figure

COLUMNS = 6  # of the grid of mistakes
CONTRAST = PowerNorm(0.5, vmin=0, vmax=1)  # by the square root of a share, so that mistakes differ to the eye
LIGHT_BELOW = 0.25  # share of an actual class below which its cell is dark and its number must be white


def confusion(found: Predictions, edition: str) -> Figure:
    """Images of each actual class (row) by predicted class (column); colour and second line: share of the row."""
    counts = confusion_matrix(found.labels, found.predicted, labels=np.arange(len(CLASSES)))
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    figure = new_figure(9, 8)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap=MAP, norm=CONTRAST)
    ticks = range(len(CLASSES))
    axes.set_xticks(ticks, CLASSES, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, CLASSES)
    axes.set(xlabel="predicted class", ylabel="actual class")
    axes.set_title(f"Confusion on the test set (CIFAR-10, {edition} edition, {counts.sum():,} images)")
    axes.grid(visible=False)
    for (row, column), count in np.ndenumerate(counts):
        _label_cell(axes, row, column, count, shares[row, column])
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the actual class", format=PercentFormatter(1))
    return figure


def _label_cell(axes: Axes, row: int, column: int, count: int, share: float) -> None:
    if count:
        colour = "white" if share < LIGHT_BELOW else "black"
        axes.text(column, row, f"{count}\n{share:.1%}", ha="center", va="center", color=colour, fontsize=8)


def per_class(accuracies: dict[SplitName, Sequence[float]], edition: str) -> Figure:
    """Bars of the accuracy of each class on train, validation and test; the test figures are written out."""
    figure = new_figure(11, 4.5)
    axes = figure.add_subplot()
    width = 0.27
    for offset, name in enumerate(SPLITS, start=-1):
        centres = np.arange(len(CLASSES)) + offset * width
        bars = axes.bar(centres, accuracies[name], width, label=name, color=SPLIT_COLOURS[name])
    axes.bar_label(bars, fmt="%.3f", fontsize=7.5, rotation=90, padding=3)
    axes.set_xticks(range(len(CLASSES)), CLASSES)
    axes.set(xlabel="class", ylabel="accuracy (share classified right)", ylim=(0, 1.12), yticks=np.arange(0, 1.01, 0.2))
    axes.set_title(f"Accuracy of each class (CIFAR-10, {edition} edition; numbers: test)")
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def reliability(bins: Sequence[Bin], edition: str) -> Figure:
    """Accuracy against confidence, bin by bin, with the line of perfect calibration; below, images in each bin."""
    figure = new_figure(6.5, 7)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    left = [one.low for one in bins]
    width = [one.high - one.low for one in bins]
    upper.bar(left, [one.accuracy for one in bins], width, align="edge", color=COLOURS["sky"], edgecolor="white")
    upper.plot([0, 1], [0, 1], "--", color=COLOURS["black"], label="perfect calibration")
    points = [(one.confidence, one.accuracy) for one in bins]
    upper.plot(*zip(*points, strict=True), "o-", color=COLOURS["red"], label="mean confidence and accuracy of a bin")
    upper.set(ylabel="accuracy (share right)", xlim=(0, 1), ylim=(0, 1))
    error = f"expected calibration error {calibration_error(bins):.4f}"
    upper.set_title(f"Reliability on the test set (CIFAR-10, {edition} edition)\n{error}")
    upper.legend(loc="upper left")
    lower.bar(left, [one.count for one in bins], width, align="edge", color=COLOURS["grey"], edgecolor="white")
    lower.set(xlabel="confidence (probability of the predicted class)", ylabel="images", yscale="log", ylim=(0.7, None))
    return figure


def mistakes(chosen: Split, predicted: Sequence[int], confidence: Sequence[float], edition: str) -> Figure:
    """The misclassified images ``chosen``, each with what the network took it for and what it is."""
    rows = max(1, math.ceil(len(chosen) / COLUMNS))
    figure = new_figure(1.9 * COLUMNS, 2.2 * rows + 0.8)
    title = (
        f"Most confident mistakes on the test set (CIFAR-10, {edition} edition)"
        if len(chosen)
        else "No mistake on the test set"
    )
    figure.suptitle(title)
    cells = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for axes in cells:
        hide_ticks(axes)
    for axes, image, label, said, sure in zip(cells, chosen.images, chosen.labels, predicted, confidence, strict=False):
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_title(f"{CLASSES[said]} ({sure:.1%})\nis: {CLASSES[label]}", fontsize=9)
    return figure
