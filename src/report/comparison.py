"""The table of all recipes: what each one costs and how accurate it is, against dense of the same run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.core.errors import UserError

COMPARISON = Path("metrics/comparison.csv")
RECIPES = Path("metrics/recipes.json")
DENSE = "dense"
FORMATS = {
    "recipe": "",
    "edition": "",
    "val_accuracy": ".4f",
    "test_accuracy": ".4f",
    "accuracy_drop_points": ".2f",
    "parameters": "d",
    "nonzero_parameters": "d",
    "macs": "d",
    "macs_ratio": ".2f",
    "bytes": "d",
    "bytes_ratio": ".2f",
    "latency_ms_b1": ".3f",
    "latency_ms_b64": ".2f",
    "latency_b1_ratio": ".2f",
}
HISTORY = ("steps", "note", "widths", "image_passes", "pflop")
HEADLINES = {
    "dense": ("val_accuracy", "test_accuracy"),
    "flagship": ("test_accuracy", "bytes_ratio", "macs_ratio", "latency_b1_ratio"),
    "int8": ("test_accuracy",),
}

Row = dict[str, Any]


def comparison_rows(tested: Mapping[str, Row], timings: Mapping[str, Row]) -> list[Row]:
    """Return the rows of the comparison, dense first, then in the order of ``tested``.

    ``tested`` and ``timings`` hold what the stages test and benchmark wrote, by recipe. A ratio says how many times
    fewer or faster than dense (dense / recipe, larger is better). ``accuracy_drop_points`` is 100 x (test accuracy
    of dense - test accuracy of the recipe): negative where the recipe does better. The latency ratio comes from
    runs interleaved with dense (`src.deployment.latency`), so it need not be the quotient of two rows' latencies.
    Raises `UserError` unless all come from one edition of the data.
    """
    _require_one_edition(tested, timings)
    order = sorted(tested, key=lambda recipe: recipe != DENSE)
    return [_row(recipe, tested[recipe], tested[DENSE], timings[recipe]) for recipe in order]


def _row(recipe: str, found: Row, dense: Row, timing: Row) -> Row:
    row = {
        "recipe": recipe,
        **{name: found[name] for name in FORMATS if name in found},
        "accuracy_drop_points": 100 * (dense["test_accuracy"] - found["test_accuracy"]),
        "macs_ratio": dense["macs"] / found["macs"],
        "bytes_ratio": dense["bytes"] / found["bytes"],
        "latency_ms_b1": timing["b1"]["network"]["median_ms"],
        "latency_ms_b64": timing["b64"]["network"]["median_ms"],
        "latency_b1_ratio": timing["b1"]["ratio"],
    }
    return {name: row[name] for name in FORMATS}


def recipe_history(tested: Mapping[str, Row]) -> Row:
    """Return how each recipe came about: steps, note, widths of its layers, training spent on its path."""
    recipes = {recipe: {name: found[name] for name in HISTORY} for recipe, found in tested.items()}
    return {"edition": tested[DENSE]["edition"], "recipes": recipes}


def _require_one_edition(*groups: Mapping[str, Row]) -> None:
    found = sorted({(values["edition"], recipe) for group in groups for recipe, values in group.items()})
    if found[0][0] != found[-1][0]:
        listed = ", ".join(f"{recipe} {edition}" for edition, recipe in found)
        raise UserError(f"metrics: editions of the data differ ({listed}); only one can be compared: run `dvc repro`")


def headline_metrics(rows: Sequence[Row]) -> Row:
    """Return the headline numbers, flat: edition, and those of `HEADLINES` whose recipe is in ``rows``."""
    by_name = {row["recipe"]: row for row in rows}
    chosen = {
        f"{recipe}_{column}": by_name[recipe][column]
        for recipe, columns in HEADLINES.items()
        if recipe in by_name
        for column in columns
    }
    return {"edition": rows[0]["edition"], **chosen}


def formatted(row: Row) -> dict[str, str]:
    """Return ``row`` as text with the fixed decimals of `FORMATS`; a rounded -0.00 loses its sign."""
    return {name: f"{row[name]:z{form}}" if form.endswith("f") else str(row[name]) for name, form in FORMATS.items()}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the positions in ``points`` (cost, accuracy) of those that no other beats, by rising cost.

    A point beats another if it costs no more and is no less accurate, and is better in one of the two.
    """
    front: list[int] = []
    for position in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[position][1] > points[front[-1]][1] or points[position] == points[front[-1]]:
            front.append(position)
    return front
