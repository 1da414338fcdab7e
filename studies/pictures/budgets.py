"""The picture of the study of budgets: accuracy against the length of the training."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from src.pictures.style import COLORS, new_figure

Row = Mapping[str, Any]
FAMILIES = {
    "magnitude": ("half of the channels, by magnitude", "blue", "o-"),
    "random": ("half of the channels, by chance (control)", "sky", "o--"),
    "scratch": ("the same widths from scratch (control)", "gray", "v--"),
    "low_rank": ("low rank", "green", "s-"),
}


def accuracy_against_budget(rows: Sequence[Row]) -> Figure:
    """Return a figure with a line for each family; ``rows`` are those of studies/results/budgets.csv."""
    figure = new_figure(8, 4.8)
    axes = figure.add_subplot()
    for family, (label, color, style) in FAMILIES.items():
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
