"""The picture of the tree of recipes, with the accuracy and the size of the file of each recipe."""

import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from src.core.recipes import DENSE
from src.data.prepared import DatasetInfo
from src.pictures.style import COLORS, hide_ticks, new_figure, titled
from src.results.columns import Row
from src.results.table import engineering

WIDTH, LINE = 10.0, 0.27  # of the figure, and of the line of a recipe, inches
MARGIN, TITLE = 0.25, 1.0  # free space around the tree, and above it for title and headings, inches
INDENT = 0.22  # of a generation, inches
TECHNIQUE, VALIDATION, TEST, FILE, BAR = 3.35, 7.35, 7.95, 8.75, 8.9  # where columns begin, numbers end, inches
LONGEST = WIDTH - MARGIN - BAR  # the bar of the file of dense, inches
CHARACTERS = 56  # of a technique, the most


def family_tree(rows: Sequence[Row], histories: Mapping[str, Row], info: DatasetInfo) -> Figure:
    """Return a figure of the tree of recipes from the root at the top: a line for each of ``rows`` of the comparison.

    A line says what its technique is and which settings its recipe changes, its accuracy on validation and test, and
    the size of its file, which is also a bar. ``histories`` are the recipes of metrics/recipes.json; the dots of
    controls are hollow.
    """
    parents = {row["recipe"]: row["parent"] for row in rows}
    controls = {name for name in parents if histories[name]["control"]}
    largest = next(row["bytes"] for row in rows if row["recipe"] == DENSE)
    places = {name: _inches(*place) for name, place in tree_places(parents).items()}
    height = TITLE + LINE * len(places) + MARGIN
    figure = new_figure(WIDTH, height)
    figure.set_layout_engine("none")  # every place is set below
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))  # one unit is one inch, downward
    hide_ticks(axes)
    for name, parent in parents.items():
        (left, top), (x, y) = places[parent], places[name]
        axes.plot([left, left, x], [top, y, y], color=COLORS["gray"], linewidth=1, zorder=1)
    for name, (x, y) in places.items():
        face = "white" if name in controls else COLORS["blue"]
        axes.scatter(x, y, 30, facecolor=face, edgecolor=COLORS["blue"], linewidth=1.4, zorder=2, label=name)
        axes.text(x + 0.1, y, name, va="center", fontsize=9.5, fontweight="bold")
    for row in rows:
        name = row["recipe"]
        _write_columns(axes, places[name][1], row, technique(histories[name]), largest)
    _write_title(axes, info, bool(controls))
    return figure


def technique(history: Row) -> str:
    """Return the technique of a recipe with the settings that the recipe changes: ``prune_channels (ratio 0.4)``.

    ``history`` is that of the recipe in metrics/recipes.json. A text that is too long for a picture ends in "...".
    """
    changed = {**history["settings"], **history["settings"].get("train", {})}
    listed = ", ".join(f"{name} {value}" for name, value in changed.items() if name != "train")
    return textwrap.shorten(history["step"] + (f" ({listed})" if listed else ""), CHARACTERS, placeholder=" ...")


def tree_places(parents: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Return the place of each node: its depth, 0 for a root, and its line; a node is above its descendants.

    ``parents`` maps each recipe to the one that it starts from. Children are in the order of ``parents``. A root is a
    parent that is no recipe itself.
    """
    places: dict[str, tuple[int, int]] = {}

    def place(name: str, depth: int) -> None:
        places[name] = depth, len(places)
        for child in (child for child, parent in parents.items() if parent == name):
            place(child, depth + 1)

    for root in dict.fromkeys(parent for parent in parents.values() if parent not in parents):
        place(root, 0)
    return places


def _inches(depth: int, line: int) -> tuple[float, float]:
    """Return where the dot of a recipe is, in inches from the left and from the upper edge."""
    return MARGIN + INDENT * (depth + 0.5), TITLE + LINE * (line + 0.5)


def _write_columns(axes: Axes, top: float, row: Row, done: str, largest: float) -> None:
    """Write what stands beside the name of a recipe, and draw the bar of its file; that of dense is ``largest``."""
    axes.text(TECHNIQUE, top, done, va="center", fontsize=8.5, color="#404040")
    percents = (f"{100 * row[column]:.2f}" for column in ("val_accuracy", "test_accuracy"))
    for place, cell in zip((VALIDATION, TEST, FILE), (*percents, engineering(row["bytes"], "B")), strict=True):
        axes.text(place, top, cell, ha="right", va="center", fontsize=9)
    share = min(1, row["bytes"] / largest)
    axes.add_patch(Rectangle((BAR, top - LINE / 4), LONGEST * share, LINE / 2, color=COLORS["sky"]))


def _write_title(axes: Axes, info: DatasetInfo, with_controls: bool) -> None:
    hint = "A recipe is one technique, applied to the network above it"
    hint += ". Hollow: a control" if with_controls else ""
    axes.text(MARGIN, 0.15, titled("The tree of recipes", info, hint), va="top", fontsize=11, linespacing=1.4)
    for place, heading in ((VALIDATION, "val %"), (TEST, "test %"), (FILE, "file")):
        axes.text(place, TITLE - 0.1, heading, ha="right", va="center", fontsize=9)
