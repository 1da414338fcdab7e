"""Pictures of test accuracy against bytes, MACs or latency, with the Pareto front and the family of the recipes."""

from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from src.core.recipes import DENSE
from src.pictures.style import COLORS, new_figure
from src.report.columns import BY_NAME, Row
from src.report.comparison import pareto_front

FORMATTERS = {"bytes": partial(EngFormatter, "B"), "count": EngFormatter, "ms": partial(FuncFormatter, "{0:g}".format)}
MARGIN = 1.6  # free space at both ends of the logarithmic axis, as a factor
HEIGHT = 2.0  # the axis spans at least so many points of accuracy, so that chance does not look like a large difference
DISTANCES = (12, 22, 34, 48, 62, 76)  # from a point to its label, in typographic points
ARROW = {"arrowstyle": "-", "color": COLORS["gray"], "linewidth": 0.8, "shrinkA": 0, "shrinkB": 5}
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
SIDES = {-1: "right", 0: "center", 1: "left"}  # horizontal alignment of a label, by its direction
# Above and to the left of a point on the front there are no points, so those places are tried first.
DIRECTIONS = ((0, 1), (-1, 1), (-1, 0), (1, 0), (0, -1), (1, -1), (1, 1), (-1, -1))


def pareto(rows: Sequence[Row], cost: str) -> Figure:
    """Return a figure of test accuracy (%) of the ``rows`` of the comparison against ``cost``, a column with an axis.

    A thin line goes from each recipe to those that start from its network.
    """
    points = {row["recipe"]: (row[cost], 100 * row["test_accuracy"]) for row in rows}
    figure = new_figure(7.5, 4.8)
    axes = figure.add_subplot()
    _draw_front(axes, [*points.values()])
    _draw_family(axes, rows, points)
    for name, (x, y) in points.items():  # dense is the first row, so its star covers no dot
        marker, color = ("*", COLORS["red"]) if name == DENSE else ("o", COLORS["blue"])
        axes.scatter(x, y, s=220 if name == DENSE else 40, marker=marker, color=color, zorder=3)
    _describe(axes, [*points.values()], cost, rows[0]["edition"])
    place_labels(axes, points)
    return figure


def _draw_family(axes: Axes, rows: Sequence[Row], points: Mapping[str, tuple[float, float]]) -> None:
    """Draw a line from the parent of each of ``rows`` to it; the root has the point of dense, the same network."""
    label = "from a recipe to those made from its network"
    for row in rows:
        if row["recipe"] != DENSE:
            ends = zip(points.get(row["parent"], points[DENSE]), points[row["recipe"]], strict=True)
            axes.plot(*ends, "--", color=COLORS["gray"], linewidth=0.8, label=label)
            label = None


def _draw_front(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Draw the Pareto front as steps, up to the highest cost of all points."""
    front = [points[position] for position in pareto_front(points)]
    front.append((max(cost for cost, _ in points), front[-1][1]))
    label = "Pareto front: nothing cheaper is as accurate"
    axes.step(*zip(*front, strict=True), where="post", color=COLORS["orange"], linewidth=2, label=label)


def _describe(axes: Axes, points: Sequence[tuple[float, float]], cost: str, edition: str) -> None:
    column = BY_NAME[cost]
    costs, accuracies = zip(*points, strict=True)
    axes.set(xscale="log", xlim=(min(costs) / MARGIN, max(costs) * MARGIN), xlabel=f"{column.axis}, logarithmic")
    title = f"Accuracy against {column.axis.partition(' (')[0]} (CIFAR-10, {edition} edition)"
    axes.set(ylabel="test accuracy (%)", title=title)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FORMATTERS[column.kind]())
    middle, span = (min(accuracies) + max(accuracies)) / 2, max(accuracies) - min(accuracies)
    axes.set_ylim(middle - max(0.75 * span, HEIGHT / 2), middle + max(0.75 * span, HEIGHT / 2))
    axes.figure.legend(loc="outside lower center", ncols=2)


def place_labels(axes: Axes, points: Mapping[str, tuple[float, float]]) -> list[Annotation]:
    """Write the name of each point at the nearest place where it covers no name and no point; return the labels.

    A thin line connects a label to its point. If no place near the point is free, the last one that was tried is used.
    """
    figure = axes.figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # otherwise a later layout would move the places found below
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in axes.transData.transform([*points.values()])]
    labels = []
    for name, point in points.items():
        label = _free_label(axes, point, name, taken)
        taken.append(_text_box(label))
        labels.append(label)
    return labels


def _free_label(axes: Axes, point: tuple[float, float], name: str, taken: Sequence[Bbox]) -> Annotation:
    label = axes.annotate(name, point, (0, 0), textcoords="offset points", va="center", arrowprops=ARROW, bbox=PAPER)
    for distance in DISTANCES:
        for right, up in DIRECTIONS:
            label.set(position=(distance * right, distance * up), ha=SIDES[right])
            box = _text_box(label)
            if _inside(box, axes.bbox) and not box.count_overlaps(taken):
                return label
    return label


def _text_box(label: Annotation) -> Bbox:
    """Return the box of the text in pixels, without the line to its point."""
    label.get_window_extent()  # moves the text to the position that was set last
    return Text.get_window_extent(label)


def _inside(box: Bbox, frame: Bbox) -> bool:
    return frame.containsx(box.x0) and frame.containsx(box.x1) and frame.containsy(box.y0) and frame.containsy(box.y1)
