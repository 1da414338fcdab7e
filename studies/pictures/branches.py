"""The picture of the separation of the last layers, before and after compression."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.pictures.style import COLORS, new_figure

Row = Mapping[str, Any]
STYLES = ("blue", "orange", "green", "red", "purple")
SCORES = {"csi": "flattened maps", "csi_pooled": "maps averaged over space"}
PANEL = 4.2  # width and height of a panel, inches


def separation_of_branches(rows: Sequence[Row], root: str, branches: Mapping[str, Sequence[str]]) -> Figure:
    """Return a figure of CSI on test over the last blocks: a column for each branch, a line for each of its recipes.

    ``rows`` are those of studies/results/branches.csv. The dashed line of each panel is that of the recipe ``root``. A
    network that was cut has fewer blocks before its logits.
    """
    blocks = [row["block"] for row in rows if row["recipe"] == root]
    figure = new_figure(PANEL * len(branches), PANEL * len(SCORES))
    panels = figure.subplots(len(SCORES), len(branches), sharex=True, sharey="row", squeeze=False)
    for line, (score, what) in zip(panels, SCORES.items(), strict=True):
        line[0].set_ylabel(f"CSI on test, {what}")
        for axes, names in zip(line, branches.values(), strict=True):
            _draw_branch(axes, rows, score, [root, *names], blocks)
    for upper, lower, title in zip(*panels, branches, strict=True):
        upper.set_title(title)
        lower.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=2)
    figure.suptitle(
        "Separation of the last layers before and after compression: held-out CSI on test\n"
        f"Dashed: {root}, the trained network. A line above it separates better at the same block"
    )
    return figure


def _draw_branch(axes: Axes, rows: Sequence[Row], score: str, names: Sequence[str], blocks: Sequence[str]) -> None:
    """Draw a line for each of ``names``, the first one dashed and gray, over the places of ``blocks``."""
    for name, color in zip(names, ("gray", *STYLES)[: len(names)], strict=True):
        own = [row for row in rows if row["recipe"] == name]
        places, style = [blocks.index(row["block"]) for row in own], "o--" if color == "gray" else "o-"
        axes.plot(places, [row[score] for row in own], style, color=COLORS[color], markersize=4, label=name)
    axes.set_xticks(range(len(blocks)), blocks, rotation=90)
