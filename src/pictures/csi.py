"""The picture of the separation of the classes in the layers of a network."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.core.arrays import CLASSES
from src.pictures.style import COLORS, SPLIT_COLORS, new_figure

Row = Mapping[str, Any]
CURVES = (
    ("train", "train, leave-one-out", SPLIT_COLORS["train"], "o-"),
    ("test", "test, centers from train", SPLIT_COLORS["test"], "o-"),
    ("train_in_sample", "train, in-sample", SPLIT_COLORS["train"], "v:"),
    ("test_in_sample", "test, in-sample", SPLIT_COLORS["test"], "v:"),
)
REFERENCE = (
    ("train_csi", "original study, train, in-sample", "x"),
    ("test_csi", "original study, test, in-sample", "+"),
)


def separation_by_layer(rows: Sequence[Row], reference: Sequence[Row], edition: str) -> Figure:
    """Return a figure of the CSI of every layer on train and test in both protocols, and below it their difference.

    ``rows`` are those of plots/csi.csv. ``reference`` holds the values of the original study, with the columns layer,
    train_csi and test_csi. Of these, only layers that are in ``rows`` are drawn, and none of the head, because the
    original study has another head.
    """
    figure = new_figure(12, 8.5)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    _draw_csi(upper, rows, reference)
    _draw_bias(lower, rows)
    for axes in (upper, lower):
        _shade_blocks(axes, rows)
        axes.grid(visible=False, axis="x")
    for middle, label in _block_labels(rows):
        upper.text(middle, 1.02, label, ha="center", va="center", fontsize=9.5)
    upper.set_title(f"Center Separation Index across layers (CIFAR-10, {edition} edition)")
    lower.set_xticks(range(len(rows)), [f"{row['layer']}  {row['kind']}" for row in rows], rotation=90, fontsize=8.5)
    lower.set(xlim=(-0.6, len(rows) - 0.4), xlabel="layer, in order")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _draw_csi(axes: Axes, rows: Sequence[Row], reference: Sequence[Row]) -> None:
    _draw_reference(axes, rows, reference)
    for column, label, color, style in CURVES:
        axes.plot([row[column] for row in rows], style, color=color, label=label, markersize=4, linewidth=1.4)
    axes.axhline(1 / len(CLASSES), color=COLORS["red"], linestyle="--", label=f"chance (1/{len(CLASSES)})")
    axes.set(ylim=(0, 1.05), ylabel="CSI (share of images)")


def _draw_bias(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw by how many points the in-sample CSI is higher than the held-out CSI."""
    for split in ("train", "test"):
        excess = [100 * (row[f"{split}_in_sample"] - row[split]) for row in rows]
        axes.plot(excess, "v:", color=SPLIT_COLORS[split], markersize=4, linewidth=1.4)
    axes.axhline(0, color=COLORS["black"], linewidth=0.8)
    axes.set(ylabel="in-sample minus\nheld-out (points)")


def _shade_blocks(axes: Axes, rows: Sequence[Row]) -> None:
    """Give every second block a gray background."""
    for _, first, last in list(_blocks(rows))[::2]:
        axes.axvspan(first - 0.5, last + 0.5, color=COLORS["gray"], alpha=0.12, linewidth=0)


def _block_labels(rows: Sequence[Row]) -> Iterator[tuple[float, str]]:
    """Yield the middle of each block on the axis of layers, and the label of the block."""
    for block, first, last in _blocks(rows):
        yield (first + last) / 2, block if block == "head" else f"block {block}"


def _blocks(rows: Sequence[Row]) -> Iterator[tuple[str, int, int]]:
    """Yield name, first layer and last layer of each block."""
    for block, members in groupby(enumerate(rows), key=lambda pair: pair[1]["block"]):
        indices = [index for index, _ in members]
        yield block, indices[0], indices[-1]


def _draw_reference(axes: Axes, rows: Sequence[Row], reference: Sequence[Row]) -> None:
    places = {row["layer"]: place for place, row in enumerate(rows) if not row["layer"].startswith("classifier")}
    shared = [row for row in reference if row["layer"] in places]
    at = [places[row["layer"]] for row in shared]
    for column, label, marker in REFERENCE:
        values = [row[column] for row in shared]
        axes.plot(at, values, marker, color=COLORS["gray"], alpha=0.7, markersize=5.5, label=label)
