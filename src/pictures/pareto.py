"""Pictures of test accuracy against bytes, MACs or latency, with the Pareto front."""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator, PercentFormatter
from matplotlib.transforms import Bbox

from src.pictures.style import COLORS, new_figure
from src.report.comparison import DENSE, Row, pareto_front

AXES = {  # by column: subject, the rest of the label, and the format of the numbers
    "bytes": ("size of the ONNX file", "(bytes)", partial(EngFormatter, "B")),
    "macs": ("multiply-accumulates", "an image (MACs)", EngFormatter),
    "latency_b1_ratio": (
        "latency",
        "of a batch of 1 on one thread (% of dense's in paired runs)",
        partial(PercentFormatter, 1),
    ),
}
INVERTED = ("latency_b1_ratio",)  # columns that say how many times faster than dense: the cost is the inverse
MARGIN = 1.6  # free space at both ends of the logarithmic axis, as a factor
HEIGHT = 2.0  # the axis spans at least so many points of accuracy, so that chance does not look like a large difference
DISTANCES = (12, 22, 34, 48, 62, 76)  # from a point to its label, in typographic points
ARROW = {"arrowstyle": "-", "color": COLORS["gray"], "linewidth": 0.8, "shrinkA": 0, "shrinkB": 5}
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
SIDES = {-1: "right", 0: "center", 1: "left"}  # horizontal alignment of a label, by its direction
# Above and to the left of a point on the front there are no points, so those places are tried first.
DIRECTIONS = ((0, 1), (-1, 1), (-1, 0), (1, 0), (0, -1), (1, -1), (1, 1), (-1, -1))


def pareto(rows: Sequence[Row], cost: str) -> Figure:
    """Return a figure of test accuracy (%) of the ``rows`` of the comparison against ``cost``, a key of `AXES`."""
    points = [(1 / row[cost] if cost in INVERTED else row[cost], 100 * row["test_accuracy"]) for row in rows]
    names = [row["recipe"] for row in rows]
    figure = new_figure(7.5, 4.8)
    axes = figure.add_subplot()
    _draw_front(axes, points)
    for (x, y), name in zip(points, names, strict=True):  # dense is the first row, so its star covers no dot
        marker, color = ("*", COLORS["red"]) if name == DENSE else ("o", COLORS["blue"])
        axes.scatter(x, y, s=220 if name == DENSE else 40, marker=marker, color=color, zorder=3)
    _describe(axes, points, cost, rows[0]["edition"])
    place_labels(axes, points, names)
    return figure


def _draw_front(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Draw the Pareto front as steps, up to the highest cost of all points."""
    front = [points[position] for position in pareto_front(points)]
    front.append((max(cost for cost, _ in points), front[-1][1]))
    label = "Pareto front: nothing cheaper is as accurate"
    axes.step(*zip(*front, strict=True), where="post", color=COLORS["orange"], linewidth=2, label=label)


def _describe(axes: Axes, points: Sequence[tuple[float, float]], cost: str, edition: str) -> None:
    subject, details, formatter = AXES[cost]
    costs, accuracies = zip(*points, strict=True)
    axes.set(xscale="log", xlim=(min(costs) / MARGIN, max(costs) * MARGIN), xlabel=f"{subject} {details}, logarithmic")
    axes.set(ylabel="test accuracy (%)", title=f"Accuracy against {subject} (CIFAR-10, {edition} edition)")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(formatter())
    middle, span = (min(accuracies) + max(accuracies)) / 2, max(accuracies) - min(accuracies)
    axes.set_ylim(middle - max(0.75 * span, HEIGHT / 2), middle + max(0.75 * span, HEIGHT / 2))
    axes.figure.legend(loc="outside lower center")


def place_labels(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> list[Annotation]:
    """Write each of ``names`` at the nearest place to its point where it covers nothing, and return the labels.

    A thin line connects a label to its point. If no place near the point is free, the last one that was tried is used.
    """
    figure = axes.figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # otherwise a later layout would move the places found below
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in axes.transData.transform(points)]
    labels = []
    for point, name in zip(points, names, strict=True):
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
