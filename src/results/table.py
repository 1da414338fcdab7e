"""The comparison as text for people: one cell for each column that a reader needs."""

import math
from collections.abc import Iterable, Sequence

from matplotlib.ticker import EngFormatter

from src.data.prepared import DatasetInfo
from src.results.columns import BY_NAME, Column, Row

LEGEND = (
    "x: times fewer or faster than dense, and half x: times smaller than half. Difference: test accuracy minus that of "
    "the recipe named under against, in percentage points, with its 95 % interval over images (Bonett and Price 2012)."
)
# The number is from studies/results/seeds-pairs-48e308b.csv: five recipes against tuned, two seeds
CHANCE = (
    "Of {intervals} such intervals {missed} are expected to miss the true difference. They leave out the seed of the "
    "training: between two seeds, on CIFAR-10, a difference had a standard deviation of 0.24 points."
)
CLAIM = (
    "Within margin: whether the loss is smaller than compare.margin in params.yaml. "
    "Inside: the whole interval says so; outside: it is larger by the whole interval; else not decided."
)
MISSED = 0.05  # the share of the intervals that miss what they are meant to contain
SMALLEST_PREFIX = 1000  # k
BALANCED, SAME = "balanced_accuracy", 1e-4  # the difference that is rounding
ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}


def data_set(info: DatasetInfo | None, rows: Sequence[Row]) -> str:
    """Return what the results ``rows`` were measured on, in a sentence; without ``info`` only the edition is known."""
    if info is None:
        return f"{rows[0]['edition']} edition."
    images = ", ".join(f"{number:,} {split}" for split, number in info.images.items())
    return f"{info.title}: {len(info.classes)} classes; {images} images of {info.side} x {info.side} pixels."


def legend(rows: Sequence[Row]) -> str:
    """Return what the columns of ``rows`` mean, and what their intervals cannot say."""
    intervals = sum(row.get("reference", row["recipe"]) != row["recipe"] for row in rows)
    chance = [CHANCE.format(intervals=intervals, missed=f"{MISSED * intervals:.1f}")] if intervals else []
    return " ".join([LEGEND, *chance, *([CLAIM] if "claim" in rows[0] else [])])


def shown(rows: Sequence[Row], names: Iterable[str]) -> list[Column]:
    """Return those columns in ``names`` that ``rows`` have: tables of older commits have fewer.

    Balanced accuracy is left out where it is test accuracy: that is so if all classes have as many images.
    """
    columns = [BY_NAME[name] for name in names if name in rows[0]]
    if all(math.isclose(row.get(BALANCED, 0), row.get("test_accuracy", 0), abs_tol=SAME) for row in rows):
        columns = [column for column in columns if column.name != BALANCED]
    return columns


def readable(rows: Sequence[Row], names: Sequence[str], arrows: bool = False) -> list[dict[str, str]]:
    """Return heading and cell of each column in ``names``, for each of ``rows``, in units that are easy to read.

    The columns are those that `shown` returns. The cell of difference_points shows its interval too. With ``arrows``
    the headings show which values are better.
    """
    columns = shown(rows, names)
    headings = [column.heading + (ARROWS[column.better] if arrows else "") for column in columns]
    return [dict(zip(headings, [cell(column, row) for column in columns], strict=True)) for row in rows]


def cell(column: Column, row: Row) -> str:
    """Return what stands in ``column`` for ``row``; "" where there is nothing to say."""
    value = row[column.name]
    if column.name in ("difference_points", "reference") and row["reference"] == row["recipe"]:
        return ""
    if column.name == "difference_points":
        return f"{value:+.2f} [{row['difference_low']:+.2f}, {row['difference_high']:+.2f}]"
    if isinstance(value, float) and math.isnan(value):
        return ""
    match column.kind:
        case "share":
            return f"{100 * value:.2f}"
        case "count" | "bytes":
            return engineering(value, "B" if column.kind == "bytes" else "")
        case "times" | "ms" | "pflop":
            return f"{value:.2f}"
        case "points":
            return f"{value:+.2f}"
    return str(value)


def engineering(value: float, unit: str = "") -> str:
    """Return ``value`` with one decimal and an SI prefix: 15.3 M. A number below 1,000 is shown as it is: 20."""
    if abs(value) < SMALLEST_PREFIX:
        return f"{value:g} {unit}".strip()
    return EngFormatter(unit, places=1)(value).strip()
