"""Pictures of the positions where the network can be cut, and of the separation per class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.data.prepared import DatasetInfo
from src.pictures.style import COLOR_MAP, COLORS, ENDS, new_figure, thinned, titled
from src.results.columns import Row
from src.separation.scores import first_within

Z = 1.96  # standard errors on each side of a 95 % interval
SCORES = (
    ("csi", "CSI, flattened, validation", "blue", "o-"),
    ("csi_pooled", "CSI, mean over the map, validation", "sky", "o--"),
    ("probe", "linear probe, validation", "orange", "s-"),
    ("si", "SI, train", "green", "^-"),
)
CLASSES = "The share of a class's images that are nearest to its own center: which classes separate early, which late"
ORDERED = "\nOrdered by the last layer, from the highest to the lowest; some of the classes are named"


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
