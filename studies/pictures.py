"""The pictures of the studies, each from the rows of its table. They stand apart, so that an edit computes nothing."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from src.pictures.style import COLOR_MAP, COLORS, new_figure
from studies.items import Row

STYLES = ("blue", "orange", "green", "red", "purple")
COLUMNS = 3  # panels beside each other
SPACE = 0.13  # below the lines, for the legend, in units of CSI
PANEL = 3.1, 3.4  # width and height of a panel, inches
BUDGETS = {
    "magnitude": ("half of the channels, by magnitude", "blue", "o-"),
    "random": ("half of the channels, at random (control)", "sky", "o--"),
    "scratch": ("the same widths from scratch (control)", "gray", "v--"),
    "low_rank": ("low rank, with more MACs", "green", "s-"),
}
CURVES = {
    "taylor": ("channels by taylor", "blue", "o"),
    "random": ("channels at random (control)", "sky", "o"),
    "low_rank": ("low rank", "green", "s"),
    "truncated": ("truncated, no fine-tuning", "orange", "^"),
}
COSTS = {"macs": "MACs", "parameters": "parameters"}
TITLES = {
    "taylor": "channels removed by taylor",
    "random": "channels removed by random",
    "low_rank": "low rank: energy kept",
    "bits": "weights rounded: bits",
}
DEEPEST = 30.0  # points; larger losses have the same color


def separation_of_branches(rows: Sequence[Row], root: str, branches: Mapping[str, Sequence[str]]) -> Figure:
    """Return a figure of CSI on test over the last blocks: a panel for each branch, a line for each of its recipes.

    ``rows`` are those of studies/results/branches.csv. The dashed line of each panel is that of the recipe ``root``. A
    network that was cut has fewer blocks before its logits.
    """
    blocks = [row["block"] for row in rows if row["recipe"] == root]
    lines = -(-len(branches) // COLUMNS)
    figure = new_figure(PANEL[0] * COLUMNS, PANEL[1] * lines)
    panels = [*figure.subplots(lines, COLUMNS, sharey=True, squeeze=False).flat]
    for axes, (title, names) in zip(panels, branches.items(), strict=False):
        _draw_branch(axes, rows, [root, *names], blocks)
        axes.set(title=title, ylabel="CSI on test, flattened maps")
        axes.legend(fontsize=8, loc="lower center")
    panels[0].set_ylim(bottom=min(row["csi"] for row in rows) - SPACE)
    for axes in panels[len(branches) :]:
        axes.remove()
    figure.suptitle(
        "Separation of the last layers before and after compression: held-out CSI on test\n"
        "Dashed: the trained network. A line above it separates better at the same block"
    )
    return figure


def _draw_branch(axes: Axes, rows: Sequence[Row], names: Sequence[str], blocks: Sequence[str]) -> None:
    """Draw a line for each of ``names``, the first one dashed and gray, over the places of ``blocks``."""
    for name, color in zip(names, ("gray", *STYLES)[: len(names)], strict=True):
        own = [row for row in rows if row["recipe"] == name]
        places, style = [blocks.index(row["block"]) for row in own], "o--" if color == "gray" else "o-"
        axes.plot(places, [row["csi"] for row in own], style, color=COLORS[color], markersize=4, label=name)
    axes.set_xticks(range(len(blocks)), blocks, rotation=90)


def accuracy_against_budget(rows: Sequence[Row]) -> Figure:
    """Return a figure with a line for each family; ``rows`` are those of studies/results/budgets.csv."""
    figure = new_figure(8, 4.8)
    axes = figure.add_subplot()
    for family, (label, color, style) in BUDGETS.items():
        own = [row for row in rows if row["family"] == family]
        x, y = [row["budget"] for row in own], [100 * row["val_accuracy"] for row in own]
        axes.plot(x, y, style, color=COLORS[color], label=label)
    budgets = sorted({row["budget"] for row in rows})
    axes.set(xscale="log", xlabel="budget (epochs of the trained network), logarithmic")
    axes.set(ylabel="accuracy on validation (%)", title="How long must one fine-tune?")
    axes.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
    axes.xaxis.set_minor_locator(NullLocator())
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def accuracy_against_cost(rows: Sequence[Row]) -> Figure:
    """Return a figure with a panel for MACs and one for parameters: a line for each family of ``rows``.

    ``rows`` are those of studies/results/curves.csv. All accuracies are on validation.
    """
    figure = new_figure(9, 4.4)
    for axes, (cost, label) in zip(figure.subplots(1, 2, sharey=True), COSTS.items(), strict=True):
        _draw_families(axes, rows, cost)
        axes.set(xscale="log", xlabel=label)
        axes.xaxis.set(major_formatter=EngFormatter(), major_locator=LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    figure.axes[0].set_ylabel("accuracy on validation (%)")
    figure.suptitle("Accuracy against cost after a short fine-tuning, or none")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_families(axes: Axes, rows: Sequence[Row], cost: str) -> None:
    """Draw the points of each family from the whole network downward; the controls are hollow."""
    whole = next(row for row in rows if row["family"] == "none")
    for family, (label, color, marker) in CURVES.items():
        points = [whole, *(row for row in rows if row["family"] == family)]
        points.sort(key=lambda row: -row[cost])
        face = "none" if family == "random" else COLORS[color]
        x, y = [row[cost] for row in points], [100 * row["val_accuracy"] for row in points]
        axes.plot(x, y, marker=marker, color=COLORS[color], markerfacecolor=face, label=label)
    axes.plot(whole[cost], 100 * whole["val_accuracy"], "*", color=COLORS["red"], markersize=14, label="whole network")


def heat_map(rows: Sequence[Row]) -> Figure:
    """Return a figure of the accuracy lost by compressing each convolution alone: one panel a method, and the gains.

    ``rows`` are those of studies/results/sensitivity.csv; the row of the method "none" is the network as it is.
    ``csi_gain`` are the percentage points that a convolution adds to CSI, None where nothing was measured before it.
    """
    whole = next(row["accuracy"] for row in rows if row["method"] == "none")
    layers = [*dict.fromkeys(row["layer"] for row in rows if row["method"] != "none")]
    figure = new_figure(15, 5.2)
    *panels, beside = figure.subplots(1, len(TITLES) + 1, sharey=True, width_ratios=[5, 5, 5, 3, 3])
    for axes, (method, title) in zip(panels, TITLES.items(), strict=True):
        shown = [row for row in rows if row["method"] == method]
        losses = {(row["layer"], row["level"]): 100 * (whole - row["accuracy"]) for row in shown}
        levels = [*dict.fromkeys(level for _, level in losses)]
        grid = np.array([[losses[layer, level] for level in levels] for layer in layers])
        image = axes.imshow(grid, cmap=COLOR_MAP, vmin=0, vmax=DEEPEST, aspect="auto")
        for (row, column), loss in np.ndenumerate(grid):
            color = "black" if loss > DEEPEST / 2 else "white"
            axes.text(column, row, f"{loss:.1f}", ha="center", va="center", fontsize=8, color=color)
        axes.set(title=title, xticks=range(len(levels)), xticklabels=[f"{level:g}" for level in levels])
        axes.grid(visible=False)
    panels[0].set_yticks(range(len(layers)), layers)
    gains = {row["layer"]: row["csi_gain"] or 0 for row in rows}
    beside.barh(range(len(layers)), [gains[layer] for layer in layers], color=COLORS["blue"])
    beside.set(title="what it adds to CSI", xlabel="points on validation")
    figure.colorbar(image, ax=panels, label="accuracy lost (points)", extend="max")
    figure.suptitle(f"What each layer bears alone, without fine-tuning (whole network: {whole:.1%} on validation)")
    return figure
