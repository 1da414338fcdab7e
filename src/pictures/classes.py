"""The picture of the change of accuracy by class: a heat map of recipes and classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest

from src.pictures.style import DARK, DIVERGING, new_figure

Row = Mapping[str, Any]
LEVEL = 0.05  # of the test of all classes together, and of that of a row's classes together
GRAY = "#555555"
HINT = "Bold: more than chance over test images (exact McNemar test, 5 % a row). Not bold: within chance"


def accuracy_by_class(rows: Sequence[Row], images: Mapping[str, int], edition: str) -> Figure:
    """Return a heat map of the change of test accuracy in points: a row for each recipe, a column for each class.

    The change is against the recipe's reference. A last column has the change over all classes. ``rows`` are those of
    plots/flips.csv; ``images`` is the number of test images of each class.
    """
    if not rows:
        figure = new_figure(11, 2)
        figure.suptitle(f"No recipe to compare with dense (CIFAR-10, {edition} edition)")
        return figure
    recipes = [*dict.fromkeys(f"{row['recipe']} (against {row['reference']})" for row in rows)]
    classes = [*dict.fromkeys(row["class"] for row in rows)]
    shape = len(recipes), len(classes)
    gained, lost = (
        _with_total(np.array([row[key] for row in rows]).reshape(shape)) for key in ("became_right", "became_wrong")
    )
    totals = [images[name] for name in classes]
    points = 100 * (gained - lost) / np.maximum([*totals, sum(totals)], 1)
    figure = new_figure(12.5, 2.1 + 0.34 * len(recipes))
    axes = figure.add_subplot()
    limit = max(1.0, np.abs(points).max())
    image = axes.imshow(points, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    _write_points(axes, points, limit, beyond_chance(gained, lost))
    axes.axvline(len(classes) - 0.5, color="white", linewidth=6)
    axes.set_xticks(range(len(classes) + 1), [*classes, "all"], fontsize=9.5)
    axes.set_yticks(range(len(recipes)), recipes, fontsize=9)
    axes.set(xlabel="class", ylabel="recipe")
    axes.set_title(f"Change of test accuracy by class, points (CIFAR-10, {edition} edition)\n{HINT}")
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="change of test accuracy (points)")
    return figure


def _with_total(counts: np.ndarray) -> np.ndarray:
    """Return ``counts`` [recipes, classes] with the sum of each row as a last column."""
    return np.column_stack([counts, counts.sum(1)])


def beyond_chance(gained: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Return where gains and losses differ by more than chance: bool [recipes, classes + 1], the last column for all.

    McNemar's exact test (1947): if the two networks are equally good, each image on which they differ is as likely a
    gain as a loss. The level of 5 % holds for the classes of a row together (Bonferroni), and for the last column.
    """
    classes = gained.shape[1] - 1
    levels = [*[LEVEL / classes] * classes, LEVEL]
    found = np.zeros(gained.shape, dtype=bool)
    for (row, column), right in np.ndenumerate(gained):
        changed = int(right + lost[row, column])
        found[row, column] = changed > 0 and binomtest(int(right), changed).pvalue < levels[column]
    return found


def _write_points(axes: Axes, points: np.ndarray, limit: float, beyond: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(points):
        weight, color = ("bold", "black") if beyond[row, column] else ("normal", GRAY)
        color = "white" if abs(value) > DARK * limit else color
        text = f"{value:+.1f}" if round(abs(value), 1) else "0"
        axes.text(column, row, text, ha="center", va="center", color=color, fontweight=weight, fontsize=9)
