"""Pictures of test accuracy against bytes, MACs or latency, with the Pareto front."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Annotation, Text
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from src.core.recipes import DENSE
from src.data.prepared import DatasetInfo
from src.pictures.style import COLORS, new_figure, titled
from src.results.columns import BY_NAME, Row
from src.results.comparison import EQUAL, pareto_front

MARGIN = 1.6  # free space at both ends of the logarithmic axis, as a factor
HEIGHT = 2.0  # the axis spans at least so many points of accuracy, so that chance does not look like a large difference
DISTANCES = (12, 22, 34, 48, 62, 76)  # from a point to its label, in typographic points
DOT = 6  # half of the width of a point, pixels
SPACE = 5  # between two names, pixels
CROWD = 60  # points nearer than that are in the way of a label, pixels
ARROW = {"arrowstyle": "-", "color": COLORS["gray"], "linewidth": 0.8, "shrinkA": 0, "shrinkB": 5}
SIZE = 9  # of the names, typographic points
FAINT: dict[str, Any] = {"color": "#8A8A8A"}
OTHERS = "networks of others; 465x: against their own baseline"
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
MEANINGS = {
    "orange": "on the front",
    "blue": "differs from the front at its cost (95 % interval)",
    "gray": "not ranked: its interval against the front contains 0",
}
Points = Mapping[str, tuple[float, float]]  # cost and accuracy (%) by name
SIDES = {-1: "right", 0: "center", 1: "left"}  # horizontal alignment of a label, by its direction
# Above and to the left of a point on the front there are no points, so those places are tried first.
DIRECTIONS: tuple[tuple[int, float], ...] = (
    *((0, 1), (-1, 1), (-1, 0), (1, 0), (0, -1), (1, -1), (1, 1), (-1, -1)),
    *((-1, -0.5), (-1, 0.5), (1, -0.5), (1, 0.5)),
    *((-1, 2), (1, 2), (-1, -2), (1, -2)),
)


def pareto(
    rows: Sequence[Row],
    pairs: Sequence[Row],
    cost: str,
    info: DatasetInfo,
    controls: Collection[str] = (),
    published: Points | None = None,
) -> Figure:
    """Return a figure of test accuracy (%) of the ``rows`` of the comparison against ``cost``, a column with an axis.

    The front goes through the rows that are best on validation, so that test chooses nothing. ``pairs`` are the rows of
    metrics/pairs.csv: a recipe whose interval against the front at its cost contains 0 is gray. The markers of
    ``controls`` are hollow. The networks of others, ``published``, are faint, and no part of the front.
    """
    published = published or {}
    points = {row["recipe"]: (row[cost], 100 * row["test_accuracy"]) for row in rows}
    front = [rows[place] for place in pareto_front([(row[cost], row["val_accuracy"]) for row in rows])]
    figure = new_figure(10, 7)
    axes = figure.add_subplot()
    lines = _draw_front(axes, [points[row["recipe"]] for row in front], max(x for x, _ in points.values()))
    _draw_points(axes, points, colors(rows, cost, front, pairs), controls)
    for point in published.values():
        axes.scatter(*point, s=20, marker="D", color=FAINT["color"], zorder=3, label=OTHERS)
    _describe(axes, [*points.values(), *published.values()], cost, info)
    place_labels(axes, {**points, **published}, lines, published)
    return figure


def colors(rows: Sequence[Row], cost: str, front: Sequence[Row], pairs: Sequence[Row]) -> dict[str, str]:
    """Return the color of each of ``rows``: orange on the ``front``, blue if it differs from the front, else gray.

    ``front`` is by rising ``cost``; a recipe is compared with its last row that costs no more, within `EQUAL`.
    """
    intervals = {frozenset((pair["recipe"], pair["reference"])): (pair["low"], pair["high"]) for pair in pairs}
    found = {}
    for row in rows:
        rival = [member for member in front if member[cost] <= (1 + EQUAL) * row[cost]][-1]
        low, high = intervals.get(frozenset((row["recipe"], rival["recipe"])), (0, 0))
        found[row["recipe"]] = "gray" if low <= 0 <= high else "blue"
    return found | {row["recipe"]: "orange" for row in front}


def _draw_points(axes: Axes, points: Points, chosen: Mapping[str, str], controls: Collection[str]) -> None:
    """Draw a star for dense, the first point, so that it covers no dot; a dot for each other, a ring for a control."""
    for name, (x, y) in points.items():
        color = COLORS[chosen[name]]
        if name == DENSE:
            axes.scatter(x, y, s=300, marker="*", color=COLORS["red"], zorder=3)
        elif name in controls:
            ring: dict[str, Any] = {"facecolor": "white", "edgecolor": color, "linewidth": 1.8}
            axes.scatter(x, y, s=40, zorder=3, label="hollow: a control", **ring)
        else:
            axes.scatter(x, y, s=40, color=color, zorder=3, label=MEANINGS[chosen[name]])


def _draw_front(axes: Axes, points: Sequence[tuple[float, float]], highest: float) -> list[Bbox]:
    """Draw the front ``points`` as steps, up to the ``highest`` cost of all recipes.

    Return its lines as boxes without width or height, in the units of the axes.
    """
    front = [*points, (highest, points[-1][1])]
    label = f"front: best on validation, in steps of more than {100 * EQUAL:g} % of cost"
    axes.step(*zip(*front, strict=True), where="post", color=COLORS["orange"], linewidth=2, label=label)
    lines = []
    for (x, y), (next_x, next_y) in pairwise(front):
        lines += [Bbox([[x, y], [next_x, y]]), Bbox([[next_x, y], [next_x, next_y]])]
    return lines


def _describe(axes: Axes, points: Sequence[tuple[float, float]], cost: str, info: DatasetInfo) -> None:
    column = BY_NAME[cost]
    costs, accuracies = zip(*points, strict=True)
    axes.set(xscale="log", xlim=(min(costs) / MARGIN, max(costs) * MARGIN), xlabel=f"{column.axis}, logarithmic")
    what, hint = f"Accuracy against {column.axis.partition(' (')[0]}", "The further up and to the left, the better"
    axes.set(ylabel="test accuracy (%)", title=titled(what, info, hint))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    unit = "B" if column.kind == "bytes" else ""
    axes.xaxis.set_major_formatter("{x:g}" if column.kind == "ms" else EngFormatter(unit))
    low, high = min(accuracies), max(accuracies)
    half = max(0.6 * (high - low), HEIGHT / 2)
    axes.set_ylim((low + high) / 2 - half, (low + high) / 2 + half)
    handles, labels = axes.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))  # each label once
    axes.figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=2)


def place_labels(axes: Axes, points: Points, lines: Sequence[Bbox], faint: Collection[str]) -> None:
    """Write the name of each point, gray if it is ``faint``, where it covers no name and no point.

    A thin line connects a label to its point; it crosses no name and no other such line.
    A place whose line touches no other point is preferred, and among these one that covers none of ``lines``, boxes in
    the units of the axes. If there is none, the thin line may cross points, and then anything; if no place is free at
    all, the last one that was tried is used.
    """
    figure = axes.figure.get_figure(root=True)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # otherwise a later layout would move the places found below
    places = zip(points, axes.transData.transform([*points.values()]), strict=True)
    dots = {name: Bbox.from_bounds(x - DOT, y - DOT, 2 * DOT, 2 * DOT) for name, (x, y) in places}
    drawn = [axes.transData.transform_bbox(box).padded(2) for box in lines]
    labels: list[Annotation] = []
    crowd = {name: sum(dot.padded(CROWD).overlaps(other) for other in dots.values()) for name, dot in dots.items()}
    for name in sorted(points, key=lambda name: -crowd[name]):  # where there are many points, names need the choice
        label = axes.annotate(name, points[name], (0, 0), textcoords="offset points", arrowprops=ARROW, bbox=PAPER)
        label.set(va="center", fontsize=SIZE, **(FAINT if name in faint else {}))
        others = [dot for other, dot in dots.items() if other != name]
        for kept_free, not_crossed in (
            ([*dots.values(), *drawn], others),
            (dots.values(), others),
            (dots.values(), []),
            (dots.values(), None),
        ):
            if _moved_to_a_free_place(label, kept_free, not_crossed, labels):
                break
        labels.append(label)


def _moved_to_a_free_place(
    label: Annotation, taken: Iterable[Bbox], not_crossed: Sequence[Bbox] | None, others: Sequence[Annotation]
) -> bool:
    """Move ``label`` to the nearest place where it covers nothing; return whether there is one inside the axes.

    The name stays off the boxes ``taken`` and its line off those ``not_crossed``, all in pixels. ``others`` are the
    labels that have a place; their names and lines stay free too. With None the line may cross all of these.
    """
    names, lines = [_text_box(other).padded(SPACE) for other in others], [_leader(other) for other in others]
    obstacles = [] if not_crossed is None else [*names, *not_crossed]
    uncrossed = [] if not_crossed is None else lines
    frame = label.axes.bbox  # type: ignore[union-attr]  # it has axes
    for distance in DISTANCES:
        for right, up in DIRECTIONS:
            label.set(position=(distance * right, distance * up), ha=SIDES[right])
            box, leader = _text_box(label), _leader(label)
            covers = box.count_overlaps([*taken, *names]) or any(line.intersects_bbox(box) for line in lines)
            crosses = any(map(leader.intersects_bbox, obstacles)) or any(map(leader.intersects_path, uncrossed))
            inside = all(frame.contains(*corner) for corner in (box.min, box.max))
            if inside and not covers and not crosses:
                return True
    return False


def _leader(label: Annotation) -> Path:
    """Return the line from the edge of the dot of ``label`` to the middle of its text, in pixels."""
    box = _text_box(label)
    start = label.axes.transData.transform(label.xy)  # type: ignore[union-attr]  # it has axes
    end = box.get_points().mean(0)
    return Path([start + DOT * (end - start) / max(np.hypot(*(end - start)), DOT), end])


def _text_box(label: Annotation) -> Bbox:
    """Return the box of the text in pixels, without the line to its point."""
    label.get_window_extent()  # moves the text to the position that was set last
    return Text.get_window_extent(label)
