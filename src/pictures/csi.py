"""The picture of class separation through the layers of a network."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.core.dataset import CLASSES
from src.pictures.style import COLOURS, SPLIT_COLOURS, new_figure

Row = Mapping[str, Any]
CURVES = (
    ("train", "train, leave-one-out", SPLIT_COLOURS["train"], "o-"),
    ("test", "test, centres from train", SPLIT_COLOURS["test"], "o-"),
    ("train_in_sample", "train, in-sample", SPLIT_COLOURS["train"], "v:"),
    ("test_in_sample", "test, in-sample", SPLIT_COLOURS["test"], "v:"),
)
REFERENCE = (
    ("train_csi", "original study, train, in-sample", "x"),
    ("test_csi", "original study, test, in-sample", "+"),
)


def separation_by_layer(rows: Sequence[Row], reference: Sequence[Row], edition: str) -> Figure:
    """CSI of every layer on train and test in both protocols, and below by how much the two differ.

    ``rows`` as in plots/csi.csv. Of ``reference``, the original study's points with the columns layer, train_csi and
    test_csi, those are drawn that have a counterpart in ``rows`` before the head, which is another one there.
    """
    figure = new_figure(12, 8.5)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    _indices(upper, rows, reference)
    _bias(lower, rows)
    for axes in (upper, lower):
        _mark_blocks(axes, rows)
        axes.grid(visible=False, axis="x")
    for middle, label in _block_labels(rows):
        upper.text(middle, 1.02, label, ha="center", va="center", fontsize=9.5)
    upper.set_title(f"Center Separation Index across layers (CIFAR-10, {edition} edition)")
    lower.set_xticks(range(len(rows)), [f"{row['layer']}  {row['kind']}" for row in rows], rotation=90, fontsize=8.5)
    lower.set(xlim=(-0.6, len(rows) - 0.4), xlabel="layer, in order")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _indices(axes: Axes, rows: Sequence[Row], reference: Sequence[Row]) -> None:
    _reference(axes, rows, reference)
    for column, label, colour, style in CURVES:
        axes.plot([row[column] for row in rows], style, color=colour, label=label, markersize=4, linewidth=1.4)
    axes.axhline(1 / len(CLASSES), color=COLOURS["red"], linestyle="--", label=f"chance (1/{len(CLASSES)})")
    axes.set(ylim=(0, 1.05), ylabel="CSI (share of images)")


def _bias(axes: Axes, rows: Sequence[Row]) -> None:
    """By how much the in-sample protocol reads higher than the honest one."""
    for split in ("train", "test"):
        excess = [100 * (row[f"{split}_in_sample"] - row[split]) for row in rows]
        axes.plot(excess, "v:", color=SPLIT_COLOURS[split], markersize=4, linewidth=1.4)
    axes.axhline(0, color=COLOURS["black"], linewidth=0.8)
    axes.set(ylabel="in-sample minus\nhonest (points)")


def _mark_blocks(axes: Axes, rows: Sequence[Row]) -> None:
    for _, first, last in list(_blocks(rows))[::2]:
        axes.axvspan(first - 0.5, last + 0.5, color=COLOURS["grey"], alpha=0.12, linewidth=0)


def _block_labels(rows: Sequence[Row]) -> Iterator[tuple[float, str]]:
    """Where along the layers the name of each block belongs, and the name."""
    for block, first, last in _blocks(rows):
        yield (first + last) / 2, block if block == "head" else f"block {block}"


def _blocks(rows: Sequence[Row]) -> Iterator[tuple[str, int, int]]:
    """Name, first and last layer of each block."""
    for block, members in groupby(enumerate(rows), key=lambda pair: pair[1]["block"]):
        indices = [index for index, _ in members]
        yield block, indices[0], indices[-1]


def _reference(axes: Axes, rows: Sequence[Row], reference: Sequence[Row]) -> None:
    places = {row["layer"]: place for place, row in enumerate(rows) if not row["layer"].startswith("classifier")}
    shared = [row for row in reference if row["layer"] in places]
    at = [places[row["layer"]] for row in shared]
    for column, label, marker in REFERENCE:
        values = [row[column] for row in shared]
        axes.plot(at, values, marker, color=COLOURS["grey"], alpha=0.7, markersize=5.5, label=label)
