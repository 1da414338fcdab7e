"""The picture of the study of sensitivity: what each layer bears."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from src.pictures.style import COLOR_MAP, COLORS, new_figure

Row = Mapping[str, Any]
TITLES = {
    "taylor": "channels removed by taylor",
    "random": "channels removed by random",
    "low_rank": "low rank: energy kept",
    "bits": "weights rounded: bits",
}
DEEPEST = 30.0  # points; larger losses have the same color


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
