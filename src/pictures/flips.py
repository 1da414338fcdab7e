"""The picture of what each recipe changes in each class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.pictures.style import DARK, DIVERGING, new_figure

Row = dict[str, Any]


def flips_by_class(rows: Sequence[Row], edition: str) -> Figure:
    """Return a table in colors: how many more test images of each class a recipe classifies right than its reference.

    ``rows`` are those of plots/flips.csv. Under the difference stand the images that became right and wrong.
    """
    figure = new_figure(11, 1.6 + 0.062 * len(rows))
    if not rows:
        figure.suptitle("No recipe to compare with dense")
        return figure
    recipes = [*dict.fromkeys(f"{row['recipe']}\n(against {row['reference']})" for row in rows)]
    classes = [*dict.fromkeys(row["class"] for row in rows)]
    shape = len(recipes), len(classes)
    gained, lost = (np.array([row[key] for row in rows]).reshape(shape) for key in ("became_right", "became_wrong"))
    axes = figure.add_subplot()
    limit = max(1, np.abs(gained - lost).max())
    image = axes.imshow(gained - lost, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    _write_cells(axes, gained, lost, limit)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(recipes)), recipes, fontsize=9)
    axes.set(xlabel="class", ylabel="recipe")
    axes.set_title(f"Test images that became right (+) and wrong (-), by class (CIFAR-10, {edition} edition)")
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, shrink=0.8, label="became right minus became wrong (images)")
    return figure


def _write_cells(axes: Axes, gained: np.ndarray, lost: np.ndarray, limit: int) -> None:
    for (line, column), right in np.ndenumerate(gained):
        wrong = lost[line, column]
        color = "white" if abs(right - wrong) > DARK * limit else "black"
        text = f"{right - wrong:+d}\n+{right} -{wrong}"
        axes.text(column, line, text, ha="center", va="center", color=color, fontsize=8)
