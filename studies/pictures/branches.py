"""The picture of the separation of the last layers, before and after compression."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.pictures.style import COLORS, new_figure

Row = Mapping[str, Any]
STYLES = ("blue", "orange", "green", "red", "purple")
COLUMNS = 3  # panels beside each other
SPACE = 0.13  # below the lines, for the legend, in units of CSI
PANEL = 3.1, 3.4  # width and height of a panel, inches


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
