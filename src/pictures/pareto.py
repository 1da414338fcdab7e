"""What accuracy costs: test accuracy against bytes, MACs and latency, with the Pareto front."""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator, PercentFormatter
from matplotlib.transforms import Bbox

from src.pictures.style import COLOURS, new_figure
from src.report.comparison import DENSE, Row, pareto_front

AXES = {  # subject, what else the axis must say, and its numbers
    "bytes": ("size of the ONNX file", "(bytes)", partial(EngFormatter, "B")),
    "macs": ("multiply-accumulates", "an image (MACs)", EngFormatter),
    "latency_b1_ratio": (
        "latency",
        "of a batch of 1 on one thread (% of dense's in paired runs)",
        partial(PercentFormatter, 1),
    ),
}
INVERTED = ("latency_b1_ratio",)  # how many times faster than dense: its inverse is the cost
MARGIN = 1.6  # free room on both sides of the logarithmic axis, as a factor
HEIGHT = 2.0  # points of accuracy that the picture spans at least, so that chance does not look like a cliff
DISTANCES = (12, 22, 34, 48, 62, 76)  # of a label from its point, in points
ARROW = {"arrowstyle": "-", "color": COLOURS["grey"], "linewidth": 0.8, "shrinkA": 0, "shrinkB": 5}
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
SIDES = {-1: "right", 0: "center", 1: "left"}  # which end of a label is at its place, by the direction
# Above and to the left of a point of the front there is nothing: those places are tried first.
DIRECTIONS = ((0, 1), (-1, 1), (-1, 0), (1, 0), (0, -1), (1, -1), (1, 1), (-1, -1))


def pareto(rows: Sequence[Row], cost: str) -> Figure:
    """Test accuracy (%) of the ``rows`` of the comparison against the column ``cost``, a key of `AXES`."""
    points = [(1 / row[cost] if cost in INVERTED else row[cost], 100 * row["test_accuracy"]) for row in rows]
    names = [row["recipe"] for row in rows]
    figure = new_figure(7.5, 4.8)
    axes = figure.add_subplot()
    _draw_front(axes, points)
    for (x, y), name in zip(points, names, strict=True):  # dense first, so that no small dot hides under its star
        marker, colour = ("*", COLOURS["red"]) if name == DENSE else ("o", COLOURS["blue"])
        axes.scatter(x, y, s=220 if name == DENSE else 40, marker=marker, color=colour, zorder=3)
    _describe(axes, points, cost, rows[0]["edition"])
    place_labels(axes, points, names)
    return figure


def _draw_front(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """The front as steps, drawn on to the costliest point, beyond which nothing better is to be had."""
    front = [points[position] for position in pareto_front(points)]
    front.append((max(cost for cost, _ in points), front[-1][1]))
    label = "Pareto front: nothing cheaper is as accurate"
    axes.step(*zip(*front, strict=True), where="post", color=COLOURS["orange"], linewidth=2, label=label)


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
    """Write each of ``names`` at the nearest place about its point where it covers nothing, with a thin line to it.

    A label with no free place within reach is left at the last one tried.
    """
    figure = axes.figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is settled: places found below must not move any more
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
    """Where the text stands in pixels, without the line to its point."""
    label.get_window_extent()  # brings the text to the place last set
    return Text.get_window_extent(label)


def _inside(box: Bbox, frame: Bbox) -> bool:
    return frame.containsx(box.x0) and frame.containsx(box.x1) and frame.containsy(box.y0) and frame.containsy(box.y1)
