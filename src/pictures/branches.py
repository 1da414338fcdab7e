"""The picture of the separation of the last layers, before and after compression."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from src.pictures.style import COLORS, new_figure

Row = Mapping[str, Any]
STYLES = ("blue", "orange", "green", "red", "purple", "sky")
TITLES = {"csi": "Flattened maps", "csi_pooled": "Maps averaged over space"}


def separation_of_branches(rows: Sequence[Row]) -> Figure:
    """Return a figure of CSI on test over the last blocks: a line for each network, that of the first one gray.

    ``rows`` are those of studies/results/branches.csv; a network that was cut has fewer blocks before its logits.
    """
    blocks = [row["block"] for row in rows if row["recipe"] == rows[0]["recipe"]]
    others = [row["block"] for row in rows if row["block"] not in blocks]
    order = [*dict.fromkeys(others), *blocks]
    figure = new_figure(13, 5)
    names = [*dict.fromkeys(row["recipe"] for row in rows)]
    for axes, (score, title) in zip(figure.subplots(1, 2, sharey=True), TITLES.items(), strict=True):
        for place, name in enumerate(names):
            shown = {row["block"]: row[score] for row in rows if row["recipe"] == name}
            color = COLORS["gray"] if place == 0 else COLORS[STYLES[(place - 1) % len(STYLES)]]
            places = [order.index(block) for block in shown]
            axes.plot(places, [*shown.values()], "o-" if place else "o--", color=color, markersize=4, label=name)
        axes.set_xticks(range(len(order)), order, rotation=90)
        axes.set(title=title, xlabel="block")
    figure.axes[0].set_ylabel("CSI on test (share of images)")
    figure.axes[0].legend(fontsize=9)
    figure.suptitle(
        "Separation of the last layers before and after compression: held-out CSI on test\n"
        "Dashed: the trained network. A line above it separates better at the same layer"
    )
    return figure
