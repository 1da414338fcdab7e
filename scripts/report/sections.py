"""What stands in each section of the report, as plain values; the template has the words and the layout."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from src.core.recipes import DENSE
from src.data.prepared import DatasetInfo
from src.results.accuracy import class_accuracies, from_text
from src.results.columns import BY_NAME, COLUMNS, Row
from src.results.history import own_steps
from src.results.table import ARROWS, cell, engineering, shown

FLAGSHIP = "flagship"
HIDDEN = ("edition", "difference_low", "difference_high")  # in the heading of the page, or in another column's cell
NO_BREAK = "\N{NO-BREAK SPACE}"
HEADINGS = {"difference_points": "difference, points [95 % interval]"}


def score(accuracy: float, images: int) -> Row:
    """Return ``accuracy`` in 0..1 and its 95 % Wilson interval as percentages; no interval without ``images``.

    ``images``: the number of images on which it was measured. Wilson, "Probable inference, the law of succession, and
    statistical inference" (1927).
    """
    shown = {"accuracy": f"{100 * accuracy:.2f}", "interval": ""}
    if images:
        interval = binomtest(round(accuracy * images), images).proportion_ci(method="wilson")
        shown["interval"] = f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
    return shown


def cells_of(row: Row) -> dict[str, str]:
    """Return the cells of ``row`` for people, by the name of the column; "" where older tables have no such column."""
    return {column.name: cell(column, row) if column.name in row else "" for column in COLUMNS}


def comparison(rows: Sequence[Row]) -> Row:
    """Return the table: its columns, and for each of ``rows`` the cells with the text and the key that sorts it."""
    columns = [column for column in shown(rows, BY_NAME) if column.name not in HIDDEN]
    headings = [
        {
            "text": HEADINGS.get(column.name, column.heading) + ARROWS[column.better].replace(" ", NO_BREAK),
            "number": column.kind != "text",
            "best_is_highest": column.better == "higher",
        }
        for column in columns
    ]
    lines = [
        [{"text": cell(column, row), "key": column.written(row[column.name])} for column in columns] for row in rows
    ]
    return {"headings": headings, "lines": lines}


def family(rows: Sequence[Row], history: Mapping[str, Row], recipes: Mapping[str, Row]) -> list[Row]:
    """Return the trees of the recipes in ``rows``, from their roots: name, tags, what was done, cells, children.

    The tags of a recipe are its technique, and "control" if it is one.

    ``history``: metrics/recipes.json; ``recipes``: those of params.yaml. Both may lack a recipe. A root is a network
    that is no recipe itself.
    """
    children: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        children[str(row.get("parent", ""))].append(row)
    recipe_names = {row["recipe"] for row in rows}

    def node(row: Row) -> Row:
        name = row["recipe"]
        control = "control" if history.get(name, {}).get("control") else ""
        return {
            "name": name,
            "tags": [*filter(None, [recipes.get(name, {}).get("step"), control])],
            "done": own_steps(name, str(row.get("parent", "")), history),
            "cells": cells_of(row),
            "children": [node(child) for child in children[name]],
        }

    roots = [name for name in list(children) if name not in recipe_names]
    return [{"name": root, "children": [node(row) for row in children[root]]} for root in roots]


def class_scores(predictions: Row, recipe: str, info: DatasetInfo) -> list[Row]:
    """Return the accuracy (%) of ``recipe`` on each class of the test images, the lowest first; [] if not known.

    ``predictions``: metrics/predictions.json.
    """
    answers, images = predictions.get("recipes", {}).get(recipe), info.images["test"]
    if not answers:
        return []
    labels, predicted = (from_text(text, images, "predictions") for text in (predictions["labels"], answers))
    shares = class_accuracies(predicted == labels, labels, len(info.classes))
    order = np.argsort(shares, kind="stable")
    return [{"name": info.classes[index], "accuracy": f"{100 * shares[index]:.1f}"} for index in order]


def model_card(
    rows: Mapping[str, Row], history: Mapping[str, Row], params: Row, predictions: Row, info: DatasetInfo | None
) -> Row:
    """Return what is known of the flagship, {} if no recipe has this name.

    ``rows``: those of the comparison by recipe; ``history``: metrics/recipes.json; ``params``: params.yaml. Without
    ``info``, in older commits, nothing is said of its classes.
    """
    if FLAGSHIP not in rows:
        return {}
    row, images = rows[FLAGSHIP], test_images(info)
    return {
        "cells": cells_of(row),
        "test": score(row["test_accuracy"], images),
        "images": f"{images:,}" if images else "",
        "done": list(history.get(FLAGSHIP, {}).get("steps", [])),
        "classes": class_scores(predictions, FLAGSHIP, info) if info else [],
        "training": training(params),
        "passes": engineering(row["image_passes"]) if "image_passes" in row else "",
        "int8": params.get("compress", {}).get("recipes", {}).get(FLAGSHIP, {}).get("step") == "quantize",
    }


def test_images(info: DatasetInfo | None) -> int:
    """Return the number of test images; 0 if it is not known."""
    return info.images["test"] if info else 0


def training(params: Row) -> Row:
    """Return name, epochs and optimizer of the recipe by which the root was trained, {} if params.yaml has none.

    In older commits each phase has a number of epochs, and there is no other.
    """
    section = params.get("train", {})
    name = section.get("recipe", "")
    recipe = section.get("defaults", {}) | section.get("recipes", {}).get(name, {})
    epochs = recipe.get("epochs") or sum(phase["epochs"] for phase in recipe.get("phases", []))
    return {"name": name, "epochs": epochs, "optimizer": recipe.get("optimizer", "")} if epochs else {}


def headline(rows: Mapping[str, Row], images: int) -> list[Row]:
    """Return the numbers at the top of the page, each with a label and a detail."""
    cards, dense, flagship = [], cells_of(rows[DENSE]), cells_of(rows.get(FLAGSHIP, {}))
    for name, what in ((DENSE, "the trained network"), (FLAGSHIP, "accuracy on test")):
        if name in rows:
            found = score(rows[name]["test_accuracy"], images)
            detail = f"95 % interval {found['interval']}" if images else "accuracy on test"
            cards.append({"value": f"{found['accuracy']} %", "label": f"{name}: {what}", "detail": detail})
    for ratio, name, what, unit in (
        ("bytes_ratio", "bytes", "smaller file", ""),
        ("latency_b1_ratio", "latency_ms_b1", "faster, one image", " ms"),
        ("macs_ratio", "macs", "fewer MACs", ""),
    ):
        if flagship[ratio] and flagship[name]:
            detail = f"{flagship[name]}{unit}, {DENSE} {dense[name]}{unit}"
            cards.append({"value": f"{flagship[ratio]} x", "label": f"{FLAGSHIP}: {what}", "detail": detail})
    return cards


def minutes(rows: Sequence[Row]) -> Row:
    """Return the minutes of each stage, those of all recipes together, their sum, and the machines; {} without rows."""
    if not rows:
        return {}
    spent: dict[str, float] = defaultdict(float)
    for row in rows:
        spent[row["stage"].partition("@")[0]] += row["minutes"]
    stages = [{"stage": stage, "minutes": f"{time:.1f}"} for stage, time in spent.items()]
    machines = list(dict.fromkeys(row["machine"] for row in rows))
    return {"stages": stages, "all": f"{sum(spent.values()):.0f}", "machines": machines}


def captioned(pictures: Mapping[str, bytes], captions: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return name, bytes and caption of all ``pictures``, in the order of ``captions``; those without one come last."""
    names = [name for name in captions if name in pictures] + sorted(pictures.keys() - captions.keys())
    return [{"name": name, "png": pictures[name], "caption": captions.get(name, "")} for name in names]
