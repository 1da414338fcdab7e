"""Pictures of the separation of the classes: by layer, at the positions where the network can be cut, per class."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.data.prepared import DatasetInfo
from src.pictures.style import COLOR_MAP, COLORS, ENDS, SPLIT_COLORS, new_figure, thinned, titled
from src.results.columns import Row
from src.separation.scores import first_within

CURVES = (
    ("train", "train, leave-one-out", SPLIT_COLORS["train"], "o-"),
    ("test", "test, centers from train", SPLIT_COLORS["test"], "o-"),
    ("train_in_sample", "train, in-sample", SPLIT_COLORS["train"], "v:"),
    ("test_in_sample", "test, in-sample", SPLIT_COLORS["test"], "v:"),
)
HINT = "Solid: what new images see. Dotted: centers of the scored images. Below: two reasons, on the same images"
REFERENCE = (
    ("train_csi", "original study, train, in-sample", "x"),
    ("test_csi", "original study, test, in-sample", "+"),
)
Z = 1.96  # standard errors on each side of a 95 % interval
SCORES = (
    ("csi", "CSI, flattened, validation", "blue", "o-"),
    ("csi_pooled", "CSI, mean over the map, validation", "sky", "o--"),
    ("probe", "linear probe, validation", "orange", "s-"),
    ("si", "SI, train", "green", "^-"),
)
CLASSES = "The share of a class's images that are nearest to its own center: which classes separate early, which late"
ORDERED = "\nOrdered by the last layer, from the highest to the lowest; some of the classes are named"


def separation_by_layer(rows: Sequence[Row], reference: Sequence[Row], info: DatasetInfo) -> Figure:
    """Return a figure of the CSI of every layer on train and test in both protocols, and below it what lies between.

    On the images of the in-sample protocol in-sample minus held-out has two parts. Inclusion: each image is a part of
    its own center (in-sample minus leave-one-out on the same images). Few images per center: leave-one-out with the
    centers of few images minus held-out with those of the whole training set, on these images too. ``rows`` are those
    of plots/csi.csv. ``reference`` holds the values of the original study, with the columns layer, train_csi and
    test_csi; on other data there are none. Of these, only layers that are in ``rows`` are drawn, and none of the head,
    because the original study has another head.
    """
    figure = new_figure(12, 9.5)
    upper, middle, lower = panels = figure.subplots(3, sharex=True, height_ratios=[3, 1, 1])
    _draw_csi(upper, rows, reference, len(info.classes))
    _draw_parts(middle, rows, "train")
    _draw_parts(lower, rows, "test")
    _mark_blocks(panels, rows)
    upper.set_title(titled("Center Separation Index across layers", info, HINT))
    lower.set_xticks(range(len(rows)), [f"{row['layer']}  {row['kind']}" for row in rows], rotation=90, fontsize=8.5)
    lower.set(xlim=(-0.6, len(rows) - 0.4), xlabel="layer, in order")
    curves, parts = upper.get_legend_handles_labels(), middle.get_legend_handles_labels()
    figure.legend(*map(list.__add__, curves, parts), loc="outside lower center", ncols=5)
    return figure


def _draw_csi(axes: Axes, rows: Sequence[Row], reference: Sequence[Row], classes: int) -> None:
    _draw_reference(axes, rows, reference)
    for column, label, color, style in CURVES:
        axes.plot([row[column] for row in rows], style, color=color, label=label, markersize=4, linewidth=1.4)
    axes.axhline(1 / classes, color=COLORS["red"], linestyle="--", label=f"chance (1/{classes})")
    axes.set(ylim=(0, 1.05), ylabel="CSI (share of images)")


def _draw_parts(axes: Axes, rows: Sequence[Row], split: str) -> None:
    """Draw the two parts of the difference between in-sample and held-out CSI on the same images of ``split``."""
    inclusion = [100 * (row[f"{split}_in_sample"] - row[f"{split}_same"]) for row in rows]
    few = [100 * (row[f"{split}_same"] - row[f"{split}_many"]) for row in rows]
    axes.plot(inclusion, "v-", color=COLORS["purple"], markersize=4, linewidth=1.4, label="image inside its own center")
    axes.plot(few, "s-", color=COLORS["sky"], markersize=4, linewidth=1.4, label="centers of few images")
    axes.axhline(0, color=COLORS["black"], linewidth=0.8)
    axes.set(ylabel=f"{split}: parts\n(points)")


def _mark_blocks(panels: Sequence[Axes], rows: Sequence[Row]) -> None:
    """Write the name of each block into the first of ``panels``, and give every second block a gray background."""
    for axes in panels:
        axes.grid(visible=False, axis="x")
    first = 0
    for place, (block, members) in enumerate(groupby(row["block"] for row in rows)):
        last = first + len([*members]) - 1
        label = block if block == "head" else f"block {block}"
        panels[0].text((first + last) / 2, 1.02, label, ha="center", va="center", fontsize=9.5)
        for axes in panels if place % 2 == 0 else ():
            axes.axvspan(first - 0.5, last + 0.5, color=COLORS["gray"], alpha=0.12, linewidth=0)
        first = last + 1


def _draw_reference(axes: Axes, rows: Sequence[Row], reference: Sequence[Row]) -> None:
    places = {row["layer"]: place for place, row in enumerate(rows) if not row["layer"].startswith("classifier")}
    shared = [row for row in reference if row["layer"] in places]
    at = [places[row["layer"]] for row in shared]
    for column, label, marker in REFERENCE if shared else ():
        values = [row[column] for row in shared]
        axes.plot(at, values, marker, color=COLORS["gray"], alpha=0.7, markersize=5.5, label=label)


def positions(rows: Sequence[Row], epsilon: float, info: DatasetInfo) -> Figure:
    """Return a figure of what each index says at each position where the network can be cut.

    ``rows`` are those of plots/positions.csv. Left: how far each score is below its highest value, with the paired 95 %
    interval of the difference, and the first position at most ``epsilon`` below. Right: all indices, and the effective
    rank.
    """
    figure = new_figure(13, 5.6)
    left, right = figure.subplots(1, 2)
    for score, label, color in (("csi", "CSI", "blue"), ("probe", "linear probe", "orange")):
        _draw_gap(left, rows, epsilon, score, label, COLORS[color])
    left.axhline(0, color=COLORS["black"], linewidth=0.8)
    left.set_yscale("symlog", linthresh=1)
    left.yaxis.set_major_formatter("{x:g}")
    left.set(ylabel="points to the highest value (validation)", title="How far below its highest value?")
    for score, label, color, style in SCORES:
        right.plot([row[score] for row in rows], style, color=COLORS[color], markersize=4, label=label)
    right.set(ylabel="share of images", title="All indices")
    _draw_rank(right, rows)
    for axes in (left, right):
        axes.set_xticks(range(len(rows)), [row["block"] for row in rows], rotation=90)
        axes.set_xlabel("cut after")
    figure.legend(loc="outside lower center", ncols=3)
    cut = f"Dotted: the cut of truncate, the first position at most {100 * epsilon:g} points below the highest value"
    scale = "Left: the scale is linear from -1 to 1, and logarithmic below"
    figure.suptitle(titled("What each index says of a cut", info, f"{cut}\n{scale}"))
    return figure


def _draw_gap(axes: Axes, rows: Sequence[Row], epsilon: float, score: str, label: str, color: str) -> None:
    """Draw ``score`` less its highest value in points, with its interval, and mark the first within ``epsilon``."""
    values = [row[score] for row in rows]
    gaps = [100 * (value - max(values)) for value in values]
    errors = [100 * Z * row[f"{score}_gap_error"] for row in rows]
    style: dict[str, Any] = {"fmt": "o-", "color": color, "markersize": 4, "capsize": 2}
    axes.errorbar(range(len(rows)), gaps, errors, label=f"{label}, 95 % interval", **style)
    first = first_within(values, epsilon)
    axes.axvline(first, color=color, linestyle=":", label=f"{label}: cut after {rows[first]['block']}")


def _draw_rank(axes: Axes, rows: Sequence[Row]) -> None:
    other = axes.twinx()
    ranks = [row["effective_rank"] for row in rows]
    other.plot(ranks, "x:", color=COLORS["gray"], markersize=5, label="effective rank (right axis)")
    other.set(ylabel="effective rank of pooled features", ylim=(0, None))
    other.grid(visible=False)
    other.spines.right.set_visible(True)


def separation_by_class(rows: Sequence[Row], info: DatasetInfo) -> Figure:
    """Return a heat map of the CSI on test per class and layer; ``rows`` are those of plots/csi_by_class.csv.

    Many classes are in the order of their CSI in the last layer, the highest at the top.
    """
    classes, hint, height = info.classes, CLASSES, 4.6
    if len(classes) > 2 * ENDS:
        classes = tuple(sorted(classes, key=lambda name: -rows[-1][name]))
        hint, height = CLASSES + ORDERED, 7.5
    grid = np.array([[row[name] for row in rows] for name in classes])
    figure = new_figure(13, height)
    axes = figure.add_subplot()
    image = axes.imshow(grid, cmap=COLOR_MAP, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(rows)), [row["layer"] for row in rows], rotation=90, fontsize=8.5)
    axes.set_yticks(*thinned(classes))
    axes.set(xlabel="layer, in order", ylabel="class")
    axes.grid(visible=False)
    axes.set_title(titled("CSI per class on test", info, hint))
    figure.colorbar(image, label="CSI (share of images)")
    return figure
