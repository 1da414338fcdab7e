"""The picture of the weights of all recipes, and of the codebooks of those that share weights."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure

from src.data.prepared import DatasetInfo
from src.pictures.style import COLOR_MAP, COLORS, hide_ticks, new_figure, titled
from src.results.columns import Row

Group = tuple[list[str], np.ndarray, np.ndarray]  # names of recipes, weights and exact zeros in each bin
COLUMNS = 4  # panels beside each other
PANEL, BOOK, EMPTY = 1.75, 4.2, 0.9  # height of a row of histograms, of the codebooks, of the panel without one, inches
LONGEST = 34  # characters of a line of names
NOTABLE = 0.0005  # share of exact zeros from which they are drawn; even whole networks have a few
RAREST = 1e-7  # the share of the lightest color; one weight of the largest layer is a larger share


def weights_and_codebooks(bins: Sequence[Row], books: Sequence[Row], info: DatasetInfo) -> Figure:
    """Return a figure with a histogram of the weights of each recipe, and below them the codebooks.

    ``bins`` are the rows of plots/weights.csv, ``books`` those of plots/codebook.csv, which may be none. The weights
    are those of the stored float32 networks, before the export folds BatchNorm and rounds. Recipes with the same
    histogram share a panel.
    """
    groups = same_histograms(bins)
    lines = -(-len(groups) // COLUMNS)
    heights = [1 + PANEL * lines, BOOK if books else EMPTY]
    figure = new_figure(12, sum(heights))
    upper, lower = figure.subfigures(2, squeeze=False, height_ratios=heights)[:, 0]
    _draw_histograms(upper, [*dict.fromkeys(row["value"] for row in bins)], groups)
    _draw_codebooks(lower, books)
    upper.suptitle(titled("Weights of each recipe as stored, before rounding", info, _hint(groups)), fontsize=11)
    return figure


def same_histograms(bins: Sequence[Row]) -> list[Group]:
    """Return each histogram once: names of the recipes, weights and exact zeros in each bin, int64 [bins]."""
    groups: dict[tuple[bytes, bytes], Group] = {}
    for name in dict.fromkeys(row["recipe"] for row in bins):
        own = [row for row in bins if row["recipe"] == name]
        counts, zeros = (np.array([row[key] for row in own], np.int64) for key in ("count", "zeros"))
        groups.setdefault((counts.tobytes(), zeros.tobytes()), ([], counts, zeros))[0].append(name)
    return [*groups.values()]


def _hint(groups: Sequence[Group]) -> str:
    """Return what there is to see, in two lines; of zeros only where they are drawn."""
    height = "Height: share of the weights of filters and matrices, on a logarithmic scale."
    ends = "The outermost bins also count what lies beyond."
    seen = "No recipe here has weights that were set to zero"
    if any(_share_of_zeros(counts, zeros) >= NOTABLE for _, counts, zeros in groups):
        seen = "Orange, and the number: exact zeros. Where weights were set to zero, there is a hole around it"
    return f"{height} {ends}\n{seen}"


def _share_of_zeros(counts: np.ndarray, zeros: np.ndarray) -> float:
    return float(zeros.sum() / counts.sum())


def _draw_histograms(figure: SubFigure, centers: Sequence[float], groups: Sequence[Group]) -> None:
    """Draw a panel for each of ``groups``, `COLUMNS` beside each other; all have the same axes."""
    columns = min(COLUMNS, len(groups))
    panels = figure.subplots(-(-len(groups) // columns), columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(groups) :]:
        axes.remove()
    for axes, (names, counts, zeros) in zip(panels.flat, groups, strict=False):
        _draw_histogram(axes, centers, counts, zeros)
        axes.set_title(textwrap.fill(", ".join(names), LONGEST), loc="left", fontsize=10)
        axes.set_ylabel("share of weights", fontsize=8)
    for axes in panels.flat[len(groups) - columns : len(groups)]:
        axes.set_xlabel("weight")
        axes.xaxis.set_tick_params(labelbottom=True)


def _draw_histogram(axes: Axes, centers: Sequence[float], counts: np.ndarray, zeros: np.ndarray) -> None:
    total, width = counts.sum(), centers[1] - centers[0]
    axes.bar(centers, (counts - zeros) / total, width, color=COLORS["blue"])
    if (share := _share_of_zeros(counts, zeros)) >= NOTABLE:
        axes.bar(centers, zeros / total, width, color=COLORS["orange"])
        axes.text(0.98, 0.95, f"{share:.1%} zeros", transform=axes.transAxes, ha="right", va="top", fontsize=9)
    axes.set_yscale("log")


def _draw_codebooks(figure: SubFigure, books: Sequence[Row]) -> None:
    """Draw a panel for each recipe with a codebook, or a line that says that there is none."""
    names = [*dict.fromkeys(row["recipe"] for row in books)]
    if not names:
        axes = figure.add_subplot()
        hide_ticks(axes)
        text = "Codebooks: no recipe here has layers with only a few distinct values"
        axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=11)
        return
    title = "Codebooks: each mark is a value that weights of the layer have. Dark: many weights have it"
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        marks = _draw_codebook(axes, [row for row in books if row["recipe"] == name])
        axes.set_title(name, loc="left", fontsize=10)
    figure.colorbar(marks, ax=panels, label="share of the layer's weights")


def _draw_codebook(axes: Axes, rows: Sequence[Row]) -> Any:
    """Draw a line of marks for each layer, the first at the top; return the marks, for their color bar."""
    table = pd.DataFrame(rows)
    layers = table.groupby("layer", sort=False)
    places = table["value"] / layers["value"].transform(lambda values: values.abs().max() or 1)
    shares = table["count"] / layers["count"].transform("sum")
    colors: dict[str, Any] = {"cmap": f"{COLOR_MAP}_r", "norm": LogNorm(RAREST, 1)}
    marks = axes.scatter(places, layers.ngroup(), 90, shares, marker="|", linewidth=1.8, **colors)
    axes.set_yticks(range(layers.ngroups), table["layer"].unique(), fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="value / largest magnitude in the layer", ylabel="layer, in order")
    axes.grid(visible=False, axis="y")
    return marks
