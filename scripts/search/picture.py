"""The picture of a search: the accuracy of each trial, and the best so far."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scripts.search.shapes import UNIFORM
from src.data.prepared import DatasetInfo
from src.pictures.style import COLORS, new_figure, titled

STUDIES = {"tpe": "blue", "random": "orange"}


def accuracy_of_trials(rows: Sequence[Mapping[str, Any]], limit: int, info: DatasetInfo) -> Figure:
    """Return a figure of the trials of `STUDIES` in ``rows``, those of the table; what was cut short is a cross."""
    rows = [row for row in rows if row["val_accuracy"] is not None]
    figure = new_figure(9, 5)
    axes = figure.add_subplot()
    for study, color in STUDIES.items():
        for state, marker in (("pruned", "x"), ("complete", "o")):
            own = [row for row in rows if (row["study"], row["state"]) == (study, state)]
            trials, percent = [row["trial"] for row in own], np.array([100 * row["val_accuracy"] for row in own])
            axes.plot(trials, percent, marker, color=COLORS[color], alpha=0.6)
        if trials:
            label = f"{study}, the best so far{' (control)' if study == 'random' else ''}"
            axes.step(trials, np.maximum.accumulate(percent), where="post", color=COLORS[color], label=label)
    for row in rows:
        if row["origin"] == UNIFORM:
            axes.axhline(100 * row["val_accuracy"], color=COLORS["black"], linestyle="--", label="uniform (control)")
    axes.set(xlabel="trial (cross: cut short)", ylabel="accuracy on validation (%)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(titled(f"Shapes of at most {limit:,} MACs after a short training", info))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
