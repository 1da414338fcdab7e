"""The picture of the study of curves: accuracy against parameters and MACs for several operating points."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from src.pictures.style import COLORS, new_figure

Row = Mapping[str, Any]
FAMILIES = {
    "taylor": ("channels by taylor", "blue", "o"),
    "random": ("channels by chance (control)", "sky", "o"),
    "low_rank": ("low rank", "green", "s"),
    "truncated": ("truncated, no fine-tuning", "orange", "^"),
}
COSTS = {"macs": "MACs", "parameters": "parameters"}


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
    figure.suptitle("Accuracy against cost; fine-tuning costs as much as one epoch of the whole network")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_families(axes: Axes, rows: Sequence[Row], cost: str) -> None:
    """Draw the points of each family from the whole network downward; the controls are hollow."""
    whole = next(row for row in rows if row["family"] == "none")
    for family, (label, color, marker) in FAMILIES.items():
        points = [whole, *(row for row in rows if row["family"] == family)]
        points.sort(key=lambda row: -row[cost])
        face = "none" if family == "random" else COLORS[color]
        x, y = [row[cost] for row in points], [100 * row["val_accuracy"] for row in points]
        axes.plot(x, y, marker=marker, color=COLORS[color], markerfacecolor=face, label=label)
    axes.plot(whole[cost], 100 * whole["val_accuracy"], "*", color=COLORS["red"], markersize=14, label="whole network")
