"""The table of all recipes: what each one costs and how accurate it is, against its reference in the same run."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np
from pydantic import Field

from src.core.errors import UserError
from src.core.params import Settings
from src.core.recipes import DENSE, HALF, TUNED
from src.results.accuracy import as_text, balanced_accuracy, from_text
from src.results.columns import COLUMNS, SUMMARY, Row
from src.results.intervals import Difference, flips, paired_difference, verdict

COMPARISON = Path("metrics/comparison.csv")
PAIRS = Path("metrics/pairs.csv")
DATASET = Path("metrics/dataset.json")
PREDICTIONS = Path("metrics/predictions.json")
BENCHMARK = Path("metrics/benchmark.json")
TRIALS = Path("docs/trials.csv")
FLIPS = Path("plots/flips.csv")
WEIGHTS = Path("plots/weights.csv")
CODEBOOK = Path("plots/codebook.csv")
PAIR_COLUMNS = ("recipe", "reference", "points", "low", "high")
FLIP_COLUMNS = ("recipe", "reference", "class", "became_wrong", "became_right")
WEIGHT_COLUMNS = ("recipe", "value", "count", "zeros")
CODEBOOK_COLUMNS = ("recipe", "layer", "value", "count")
EQUAL = 0.05  # the share by which costs may differ and still count as equal


class CompareSettings(Settings):
    """The section ``compare`` of params.yaml. ``margin``: the loss in points below which a recipe costs nothing."""

    margin: float = Field(ge=0, le=100)


def comparison_rows(
    tested: Mapping[str, Row],
    timings: Mapping[str, Row],
    parents: Mapping[str, str],
    labels: np.ndarray,
    trials: Sequence[str],
    margin: float,
) -> list[Row]:
    """Return the rows of the comparison, dense first, then in the order of ``tested``.

    ``tested`` and ``timings`` hold what the stages test and benchmark measured, by recipe. ``parents`` maps each recipe
    to the one that it starts from. ``labels`` int [images] are the true classes of test. ``trials`` names, for each
    setting that was tried on validation, the recipe or the root for which it was tried. ``margin``: the loss in points
    below which a recipe costs nothing (see `verdict`).

    Differences are against `reference`, and without an interval also against dense and against tuned. A ratio says how
    many times fewer or faster than dense (larger is better); ``bytes_ratio_half`` is against half, the same network in
    float16. What needs a recipe that is not there is NaN. Trials are those of a recipe and its ancestors, without the
    root's.
    """
    correct = correct_images(tested, labels)
    rows = []
    for recipe in sorted(tested, key=lambda name: name != DENSE):
        other, path = reference(recipe, tested), _path(recipe, parents)
        values = {
            **tested[recipe],
            "recipe": recipe,
            "parent": parents[recipe],
            "balanced_accuracy": balanced_accuracy(correct[recipe], labels),
            "reference": other,
            **_differences(correct, recipe, other, margin),
            **_ratios(tested[recipe], tested),
            "stored_bytes": stored_bytes(tested[recipe]),
            **_latencies(timings[recipe]),
            "settings_tried": sum(trial in path for trial in trials),
        }
        rows.append({column.name: values[column.name] for column in COLUMNS})
    return rows


def reference(recipe: str, tested: Mapping[str, Row]) -> str:
    """Return the recipe that ``recipe`` is compared with: tuned, if both are trained after the root; else dense."""
    trained_on = tested[recipe]["pflop_after_root"] > 0
    return TUNED if trained_on and TUNED in tested and recipe != TUNED else DENSE


def stored_bytes(values: Row) -> float:
    """Return the size of a recipe's file as it is stored: coded, if the recipe has a coded file, else after gzip."""
    coded = values["coded_bytes"]
    return values["packed_bytes"] if math.isnan(coded) else coded


def better_on_validation(rows: Sequence[Row], released: str) -> str:
    """Return the recipe with the highest accuracy on validation at the cost of ``released``; "" if that is released.

    At its cost are all rows, controls too, whose MACs are the same within `EQUAL`, and whose file is no larger than
    that of ``released`` by more than `EQUAL`: a network in float32 does not replace one in int8.
    """
    own = next(row for row in rows if row["recipe"] == released)
    at_its_cost = [
        row
        for row in rows
        if abs(row["macs"] / own["macs"] - 1) <= EQUAL and row["bytes"] <= (1 + EQUAL) * own["bytes"]
    ]
    best = max(at_its_cost, key=lambda row: row["val_accuracy"])
    return best["recipe"] if best["val_accuracy"] > own["val_accuracy"] else ""


def _differences(correct: Mapping[str, np.ndarray], recipe: str, other: str, margin: float) -> Row:
    """Return the difference of ``recipe`` from ``other``, what it decides, and the points against dense and tuned."""
    itself = recipe == other
    difference = Difference(0.0, 0.0, 0.0) if itself else paired_difference(correct[recipe], correct[other])
    return {
        **{f"difference_{name}": value for name, value in asdict(difference).items()},
        "claim": "" if itself else verdict(difference, margin),
        **{f"{name}_points": _points(correct, recipe, name) for name in (DENSE, TUNED)},
    }


def _points(correct: Mapping[str, np.ndarray], recipe: str, other: str) -> float:
    """Return by how many points ``recipe`` is above ``other`` on test; NaN if there is no ``other``."""
    return 100 * float(correct[recipe].mean() - correct[other].mean()) if other in correct else float("nan")


def _latencies(timing: Row) -> Row:
    return {
        "latency_ms_b1": timing["b1"]["median_ms"],
        "latency_b1_ratio": timing["b1"]["ratio"],
        "latency_cold_ratio": timing["b1_cold"]["ratio"],
        "latency_ms_b64": timing["b64"]["median_ms"],
        "latency_b64_ratio": timing["b64"]["ratio"],
    }


def _ratios(values: Row, tested: Mapping[str, Row]) -> Row:
    dense = tested[DENSE]
    return {
        "macs_ratio": dense["macs"] / values["macs"],
        "bytes_ratio": dense["bytes"] / values["bytes"],
        "bytes_ratio_half": tested[HALF]["bytes"] / values["bytes"] if HALF in tested else float("nan"),
    }


def _path(recipe: str, parents: Mapping[str, str]) -> set[str]:
    """Return ``recipe`` and all its ancestors, without the root."""
    path = set()
    while recipe in parents:
        path.add(recipe)
        recipe = parents[recipe]
    return path


def flip_rows(tested: Mapping[str, Row], labels: np.ndarray, classes: Sequence[str]) -> list[Row]:
    """Return a row per recipe, except dense, and class: images that became wrong and right against the reference.

    ``labels`` int [images] are the true classes of test; ``classes`` are their names.
    """
    correct = correct_images(tested, labels)
    rows = []
    for recipe in (name for name in tested if name != DENSE):
        other = reference(recipe, tested)
        changed = flips(correct[recipe], correct[other], labels, len(classes)).tolist()
        for name, (lost, gained) in zip(classes, changed, strict=True):
            rows.append(dict(zip(FLIP_COLUMNS, (recipe, other, name, lost, gained), strict=True)))
    return rows


def correct_images(tested: Mapping[str, Row], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return whether each image is classified correctly, bool [images], by recipe; ``labels`` are int [images]."""
    return {
        recipe: from_text(values["predicted"], len(labels), f"models/tested/{recipe}.json: predicted") == labels
        for recipe, values in tested.items()
    }


def pair_rows(
    correct: Mapping[str, np.ndarray], difference: Callable[[np.ndarray, np.ndarray], Difference] = paired_difference
) -> list[Row]:
    """Return a row for each pair of recipes: the ``difference`` of the second one from the first, the reference.

    ``correct`` holds what ``difference`` takes, by recipe: whether each image is classified correctly.
    """
    return [
        {"recipe": recipe, "reference": other, **asdict(difference(correct[recipe], correct[other]))}
        for other, recipe in combinations(correct, 2)
    ]


def predicted_classes(tested: Mapping[str, Row], labels: np.ndarray) -> Row:
    """Return the true classes of the test images and those that each recipe predicts, as `as_text` writes them."""
    predicted = {recipe: values["predicted"] for recipe, values in tested.items()}
    return {"edition": tested[DENSE]["edition"], "labels": as_text(labels), "recipes": predicted}


def require_one_edition(*groups: Mapping[str, Row]) -> None:
    """Raise `UserError` unless all ``groups``, mappings from a name to results, come from one edition of the data."""
    editions = sorted({(values["edition"], recipe) for group in groups for recipe, values in group.items()})
    if editions[0][0] != editions[-1][0]:
        listed = ", ".join(f"{recipe} {edition}" for edition, recipe in editions)
        raise UserError(f"editions of the data differ ({listed}); only one can be compared: run `dvc repro`")


def headline_metrics(rows: Sequence[Row]) -> Row:
    """Return the headline numbers, flat: those of `SUMMARY` whose recipe is in ``rows``."""
    by_name = {row["recipe"]: row for row in rows}
    return {
        f"{recipe}_{column}": by_name[recipe][column]
        for recipe, columns in SUMMARY.items()
        if recipe in by_name
        for column in columns
    }


def formatted(row: Row) -> dict[str, str]:
    """Return ``row`` as text with the fixed decimals of its columns."""
    return {column.name: column.written(row[column.name]) for column in COLUMNS}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the positions in ``points`` (cost, accuracy) of those on the front, by rising cost and accuracy.

    From the most accurate point downward, one joins the front if it is cheaper than the last by more than `EQUAL`. Of
    points with the same accuracy and cost only the first joins. A point that did not join may beat the next one that
    does at a cost that is equal, since being equal is not transitive.
    """
    front: list[int] = []
    for position in sorted(range(len(points)), key=lambda i: (-points[i][1], points[i][0])):
        if not front or (1 + EQUAL) * points[position][0] < points[front[-1]][0]:
            front.append(position)
    return front[::-1]
