"""Pictures of the test of a network: confusion, accuracy per class, calibration, mistakes.

They are drawn from the rows of the tables that the stage evaluate writes.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import confusion_matrix
from torch import Tensor

from src.data.prepared import SPLITS, DatasetInfo
from src.pictures.style import (
    COLOR_MAP,
    COLORS,
    ENDS,
    SPLIT_COLORS,
    hide_ticks,
    new_figure,
    short,
    thinned,
    tilted,
    titled,
    worst_and_best,
)
from src.results.columns import Row
from src.results.evaluation import Bin, calibration_error

COLUMNS = 6  # in the grid of mistakes
CONTRAST = PowerNorm(0.5, vmin=0, vmax=1)  # the square root of a share, so that small shares can be told apart
LIGHT_BELOW = 0.25  # a cell with a smaller share of its row is dark, so its number is white
NUMBERED = 12  # the most classes whose cells have numbers
TITLE = 80  # characters of a line
NAMED = 3  # confusions that the title names where cells have no numbers

BESIDE: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7.5, "va": "center"}


def confusion(rows: Sequence[Row], info: DatasetInfo) -> Figure:
    """Return a figure of the confusion matrix: images by actual class (row) and predicted class (column).

    ``rows`` are those of plots/confusion.csv. The color of a cell and the second line in it are its share of the row.
    With many classes there are no numbers; the title names the largest shares off the diagonal.
    """
    actual, predicted = ([row[name] for row in rows] for name in ("actual", "predicted"))
    counts = confusion_matrix(actual, predicted, labels=info.classes)
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    figure = new_figure(9, 8)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap=COLOR_MAP, norm=CONTRAST)
    places, labels = thinned(info.classes)
    axes.set_xticks(places, labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, labels)
    axes.set(xlabel="predicted class", ylabel="actual class")
    numbered = len(info.classes) <= NUMBERED
    hint = "" if numbered else _largest_confusions(shares, info.classes)
    axes.set_title(titled("Confusion on the test set", info, hint, f", {counts.sum():,} images"))
    axes.grid(visible=False)
    for row, column in np.argwhere(counts) if numbered else ():
        share = shares[row, column]
        text, color = f"{counts[row, column]}\n{share:.1%}", "white" if share < LIGHT_BELOW else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the actual class", format=PercentFormatter(1))
    return figure


def _largest_confusions(shares: np.ndarray, classes: Sequence[str]) -> str:
    """Return the largest ``shares`` [K, K] off the diagonal in words; "" if all are zero."""
    others = np.where(np.eye(len(shares), dtype=bool), 0, shares)
    places = (np.unravel_index(place, others.shape) for place in np.argsort(-others, axis=None, kind="stable")[:NAMED])
    named = [
        f"{short(classes[row])} as {short(classes[column])} ({others[row, column]:.0%})"
        for row, column in places
        if others[row, column]
    ]
    return textwrap.fill(f"Largest: {', '.join(named)}", TITLE) if named else ""


def class_accuracy(rows: Sequence[Row], info: DatasetInfo) -> Figure:
    """Return a figure with a dot for the accuracy per class and split; ``rows``: plots/per_class.csv.

    Of many classes those with the lowest and the highest accuracy on test are shown.
    """
    shown = worst_and_best(np.array([row["test_accuracy"] for row in rows]))
    hint = f"The {ENDS} lowest and the {ENDS} highest of {len(rows)} classes on test" if len(shown) < len(rows) else ""
    rows = [rows[place] for place in shown]
    figure = new_figure(11, 4.5)
    axes = figure.add_subplot()
    for offset, name in enumerate(SPLITS, start=-1):
        places = np.arange(len(rows)) + 0.2 * offset
        axes.plot(places, [row[f"{name}_accuracy"] for row in rows], "o", label=name, color=SPLIT_COLORS[name])
    for place, row in enumerate(rows):
        axes.annotate(f"{row['test_accuracy']:.3f}", (place + 0.2, row["test_accuracy"]), (5, 0), **BESIDE)
    names = [short(row["class"]) for row in rows]
    axes.set_xticks(range(len(rows)), names, **tilted(names))
    axes.set(xlabel="class", ylabel="accuracy (share correct)")
    axes.margins(y=0.12)
    axes.set_title(titled("Accuracy per class", info, hint, "; numbers: test"))
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def reliability_diagram(rows: Sequence[Row], info: DatasetInfo) -> Figure:
    """Return a figure of accuracy against confidence in each bin, and below it the number of images in each bin.

    ``rows`` are those of plots/reliability.csv. The dashed line is perfect calibration: accuracy equal to confidence.
    """
    bins = [Bin(**row) for row in rows]
    figure = new_figure(6.5, 7)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    left, width = [b.low for b in bins], [b.high - b.low for b in bins]
    confidences, accuracies = [b.confidence for b in bins], [b.accuracy for b in bins]
    upper.bar(left, accuracies, width, align="edge", color=COLORS["sky"], edgecolor="white")
    upper.plot([0, 1], [0, 1], "--", color=COLORS["black"], label="perfect calibration")
    upper.plot(confidences, accuracies, "o-", color=COLORS["red"], label="mean confidence and accuracy of a bin")
    upper.set(ylabel="accuracy (share correct)", xlim=(0, 1), ylim=(0, 1))
    error = f"expected calibration error {calibration_error(bins):.4f}"
    upper.set_title(titled("Reliability on the test set", info, error))
    upper.legend(loc="upper left")
    lower.bar(left, [b.count for b in bins], width, align="edge", color=COLORS["gray"], edgecolor="white")
    lower.set(xlabel="confidence (probability of the predicted class)", ylabel="images", yscale="log", ylim=(0.7, None))
    return figure


def mistakes(rows: Sequence[Row], test_images: Tensor, info: DatasetInfo) -> Figure:
    """Return a figure of misclassified test images, each with its predicted class and its actual class.

    ``rows`` are those of plots/mistakes.csv, ``test_images`` all images of test, uint8 [N, 3, side, side].
    """
    lines = max(1, math.ceil(len(rows) / COLUMNS))
    figure = new_figure(1.9 * COLUMNS, 2.2 * lines + 0.8)
    title = titled("Most confident mistakes on the test set", info)
    figure.suptitle(title if rows else "No mistake on the test set")
    cells = figure.subplots(lines, COLUMNS, squeeze=False).flatten()
    for axes in cells:
        hide_ticks(axes)
    for axes, row in zip(cells, rows, strict=False):
        axes.imshow(test_images[row["index"]].permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_title(f"{short(row['predicted'])} ({row['confidence']:.1%})\nis: {short(row['actual'])}", fontsize=9)
    return figure
