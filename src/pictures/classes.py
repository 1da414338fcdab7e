"""The picture of the change of accuracy per class: a heat map of recipes and classes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binom

from src.data.prepared import DatasetInfo
from src.pictures.style import DARK, DIVERGING, ENDS, new_figure, short, tilted, titled, worst_and_best
from src.results.columns import Row

LEVEL = 0.05  # of the test of all classes together, and of that of a row's classes together
GRAY = "#555555"
HINT = "Bold: more than chance (exact McNemar test: 5 % over the classes of a row together, and 5 % in the column all)"


def accuracy_by_class(rows: Sequence[Row], images: Mapping[str, int], info: DatasetInfo) -> Figure:
    """Return a heat map of the change of test accuracy in points: a row per recipe, a column per class, one for all.

    The change is against the recipe's reference. ``rows`` are those of plots/flips.csv; ``images`` is the number of
    test images per class. Of many classes those with the lowest and the highest mean change are shown.
    """
    if not rows:
        figure = new_figure(11, 2)
        figure.suptitle(titled("No recipe to compare with dense", info))
        return figure
    recipes = [*dict.fromkeys(f"{row['recipe']} (against {row['reference']})" for row in rows)]
    classes = [*dict.fromkeys(row["class"] for row in rows)]
    gained, lost = (_counts(rows, key, len(recipes)) for key in ("became_right", "became_wrong"))
    totals = [images[name] for name in classes]
    points = 100 * (gained - lost) / np.maximum([*totals, sum(totals)], 1)
    shown = [*worst_and_best(points[:, :-1].mean(0)), len(classes)]
    names = [short([*classes, "all"][place]) for place in shown]
    ends = f"\nThe {ENDS} lowest and the {ENDS} highest mean changes of {len(classes)} classes"
    hint = HINT + (ends if len(shown) <= len(classes) else "")
    points, beyond = points[:, shown], beyond_chance(gained, lost)[:, shown]
    figure = new_figure(12.5, 2.1 + 0.34 * len(recipes))
    axes = figure.add_subplot()
    limit = max(1.0, np.abs(points).max())
    image = axes.imshow(points, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    _write_points(axes, points, limit, beyond)
    axes.axvline(len(shown) - 1.5, color="white", linewidth=6)
    axes.set_xticks(range(len(shown)), names, fontsize=9.5, **tilted(names))
    axes.set_yticks(range(len(recipes)), recipes, fontsize=9)
    axes.set(xlabel="class", ylabel="recipe")
    axes.set_title(titled("Change of test accuracy per class, points", info, hint))
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="change of test accuracy (points)")
    return figure


def _counts(rows: Sequence[Row], column: str, recipes: int) -> np.ndarray:
    """Return ``column`` as int64 [recipes, classes + 1]; the last number of a row is its sum."""
    counts = np.array([row[column] for row in rows]).reshape(recipes, -1)
    return np.column_stack([counts, counts.sum(1)])


def beyond_chance(gained: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Return where gains and losses differ by more than chance: bool [recipes, classes + 1], the last column for all.

    McNemar's exact test (1947): if the two networks are equally good, each image on which they differ is as likely a
    gain as a loss. The level of 5 % holds for the classes of a row together (Bonferroni), and for the last column.
    """
    classes = gained.shape[1] - 1
    return 2 * binom.cdf(np.minimum(gained, lost), gained + lost, 0.5) < [*[LEVEL / classes] * classes, LEVEL]


def _write_points(axes: Axes, points: np.ndarray, limit: float, beyond: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(points):
        weight, color = ("bold", "black") if beyond[row, column] else ("normal", GRAY)
        color = "white" if abs(value) > DARK * limit else color
        text = f"{value:+.1f}" if round(abs(value), 1) else "0"
        axes.text(column, row, text, ha="center", va="center", color=color, fontweight=weight, fontsize=9)
