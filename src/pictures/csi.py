"""The picture of class separation through the layers of a network."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.dataset import CLASSES
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
    """CSI of every layer on train and test in both protocols, with the original study's points drawn faintly.

    ``rows`` as in plots/csi.csv; ``reference`` has the columns layer, train_csi and test_csi. Of the latter those are
    shown that have a counterpart in ``rows`` before the head, which is another one there.
    """
    figure = new_figure(16, 7.5)
    axes = figure.add_subplot()
    _mark_blocks(axes, rows)
    for column, label, colour, style in CURVES:
        axes.plot([row[column] for row in rows], style, color=colour, label=label, markersize=4, linewidth=1.4)
    _reference(axes, rows, reference)
    axes.axhline(1 / len(CLASSES), color=COLOURS["red"], linestyle="--", label=f"chance (1/{len(CLASSES)})")
    axes.set_xticks(range(len(rows)), [f"{row['layer']}  {row['kind']}" for row in rows], rotation=90, fontsize=8.5)
    axes.set(xlim=(-0.6, len(rows) - 0.4), ylim=(0, 1.05), xlabel="layer, in order", ylabel="CSI (share of images)")
    axes.set_title(f"Center Separation Index across layers ({edition} data)")
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside lower center", ncols=7)
    return figure


def _mark_blocks(axes: Axes, rows: Sequence[Row]) -> None:
    for number, (block, first, last) in enumerate(_blocks(rows)):
        if number % 2 == 0:
            axes.axvspan(first - 0.5, last + 0.5, color=COLOURS["grey"], alpha=0.12, linewidth=0)
        label = block if block == "head" else f"block {block}"
        axes.text((first + last) / 2, 1.02, label, ha="center", va="center", fontsize=9.5)


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
        axes.plot(at, values, marker, color=COLOURS["black"], alpha=0.45, markersize=5.5, label=label)
