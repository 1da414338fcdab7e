"""The picture of the tree of recipes, with the accuracy and the size of each file in its node."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from src.core.recipes import DENSE
from src.data.prepared import DatasetInfo
from src.pictures.history import technique
from src.pictures.style import COLORS, hide_ticks, new_figure, titled
from src.results.columns import Row
from src.results.table import engineering

WIDTH, HEIGHT = 3.3, 0.66  # of a node, inches
ROOT_WIDTH = 1.3  # of the node of the root, which has no file
STEP, LINE = 3.8, 0.8  # from one generation to the next and from one leaf to the next, inches
BAR = 0.06  # height of the bar of the file size, inches
NARROWEST = 12.0  # the figure, so that the title has space, inches
MARGIN, TITLE = 0.25, 0.75  # free space around the tree and above it, inches
FILL = "#E3EEF6"  # a light blue
ROUNDED = "round,pad=0,rounding_size=0.06"


def family_tree(
    rows: Sequence[Row], histories: Mapping[str, Mapping[str, Any]], controls: Collection[str], info: DatasetInfo
) -> Figure:
    """Return a figure of the tree of recipes from the root at the left: a node for each of ``rows`` of the comparison.

    A node says what its technique is and which settings its recipe changes, its accuracy on validation and test, and
    the size of its file, which is also a bar. ``histories`` are the recipes of metrics/recipes.json; the nodes of
    ``controls`` are hollow.
    """
    parents = {row["recipe"]: row["parent"] for row in rows}
    places = tree_places(parents)
    deepest, last = max(depth for depth, _ in places.values()), max(line for _, line in places.values())
    width, height = max(NARROWEST, _left(deepest) + WIDTH + MARGIN), TITLE + last * LINE + HEIGHT + MARGIN
    figure = new_figure(width, height)
    figure.set_layout_engine("none")  # every place is set below
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))  # one unit is one inch, downward
    hide_ticks(axes)
    for child, parent in parents.items():
        _draw_edge(axes, places[parent], places[child])
    for name in _roots(parents):
        _draw_root(axes, places[name], name)
    largest = next(row["bytes"] for row in rows if row["recipe"] == DENSE)
    for row in rows:
        corner = _left(places[row["recipe"]][0]), TITLE + LINE * places[row["recipe"]][1]
        _draw_node(axes, corner, row, technique(histories[row["recipe"]]), row["recipe"] in controls)
        axes.add_patch(Rectangle(corner, WIDTH * min(1, row["bytes"] / largest), BAR, color=COLORS["blue"]))
    _write_title(axes, info, not parents.keys().isdisjoint(controls))
    return figure


def tree_places(parents: Mapping[str, str]) -> dict[str, tuple[int, float]]:
    """Return the place of each node: its depth, 0 for a root, and its line, whole numbers for leaves.

    ``parents`` maps each recipe to the one that it starts from. Children are in the order of ``parents``; a parent is
    in the middle between its first and its last child.
    """
    places: dict[str, tuple[int, float]] = {}
    leaves = iter(range(len(parents) + 1))

    def place(name: str, depth: int) -> float:
        lines = [place(child, depth + 1) for child, parent in parents.items() if parent == name]
        line = (lines[0] + lines[-1]) / 2 if lines else float(next(leaves))
        places[name] = depth, line
        return line

    for root in _roots(parents):
        place(root, 0)
    return places


def _roots(parents: Mapping[str, str]) -> Iterable[str]:
    """Return the parents that are no recipe themselves, each once."""
    return dict.fromkeys(parent for parent in parents.values() if parent not in parents)


def _left(depth: int) -> float:
    """Return the left edge of the nodes of a generation, in inches."""
    return MARGIN if depth == 0 else MARGIN + ROOT_WIDTH - WIDTH + depth * STEP


def _draw_edge(axes: Axes, parent: tuple[int, float], child: tuple[int, float]) -> None:
    """Draw a line with two right angles from the right side of ``parent`` to the left side of ``child``."""
    start, end = _left(parent[0]) + (WIDTH if parent[0] else ROOT_WIDTH), _left(child[0])
    above, below = (TITLE + LINE * line + HEIGHT / 2 for _, line in (parent, child))
    middle = (start + end) / 2
    axes.plot([start, middle, middle, end], [above, above, below, below], color=COLORS["gray"], linewidth=1, zorder=1)


def _draw_root(axes: Axes, place: tuple[int, float], name: str) -> None:
    top = TITLE + LINE * place[1]
    box = FancyBboxPatch((MARGIN, top), ROOT_WIDTH, HEIGHT, ROUNDED, facecolor=FILL, edgecolor=COLORS["black"])
    axes.add_patch(box)
    text = f"{name}\n(the root)"
    axes.text(MARGIN + ROOT_WIDTH / 2, top + HEIGHT / 2, text, ha="center", va="center", fontsize=8.5)


def _draw_node(axes: Axes, corner: tuple[float, float], row: Row, done: str, control: bool) -> None:
    """Draw a box with name, technique, accuracies and size of one recipe; ``corner`` is its upper left one, inches."""
    face, style = ("white", "--") if control else (FILL, "-")
    outline = {"facecolor": face, "edgecolor": COLORS["blue"], "linestyle": style, "label": row["recipe"]}
    axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, ROUNDED, **outline))
    left, top = corner[0] + 0.08, corner[1] + BAR
    accuracy = f"val {100 * row['val_accuracy']:.2f} %, test {100 * row['test_accuracy']:.2f} %"
    axes.text(left, top + 0.13, row["recipe"], va="center", fontsize=9.5, fontweight="bold")
    axes.text(corner[0] + WIDTH - 0.08, top + 0.13, engineering(row["bytes"], "B"), ha="right", va="center", fontsize=9)
    axes.text(left, top + 0.31, done, va="center", fontsize=7.5, color="#404040")
    axes.text(left, top + 0.48, accuracy, va="center", fontsize=9)


def _write_title(axes: Axes, info: DatasetInfo, with_controls: bool) -> None:
    hint = "Each box is one technique, applied to the network at its left. Blue bar: file size; dense: the whole width"
    hint += ". Hollow: a control" if with_controls else ""
    title = titled("The tree of recipes", info, hint)
    axes.text(MARGIN, 0.15, title, va="top", fontsize=11, linespacing=1.4)
