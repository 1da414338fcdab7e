"""Put all recipes into one table, with intervals, a summary, and how each recipe came about."""

from pathlib import Path
from typing import Any

from src.core.arrays import load_arrays
from src.core.errors import UserError
from src.core.files import read_csv, read_json, write_csv, write_json
from src.core.params import Settings, load_params
from src.core.recipes import RecipesSection
from src.core.stage import run_stage
from src.report.comparison import (
    BENCHMARK,
    COMPARISON,
    RECIPES,
    comparison_rows,
    flip_rows,
    formatted,
    headline_metrics,
    predicted_classes,
    recipe_history,
)

TESTED = Path("models/tested")
TRIALS = Path("docs/trials.csv")
SUMMARY = Path("metrics/summary.json")
PREDICTIONS = Path("metrics/predictions.json")
FLIPS = Path("plots/flips.csv")
FLIP_COLUMNS = ("recipe", "reference", "class", "became_wrong", "became_right")


class Params(Settings):
    """What this stage reads of params.yaml."""

    compress: RecipesSection


def main() -> None:
    """Compare the recipes of params.yaml; files of recipes that are no longer there are ignored."""
    recipes = load_params("compare", Params).compress.recipes
    tested = {recipe: read_json(TESTED / f"{recipe}.json") for recipe in recipes}
    parents = {recipe: values["from"] for recipe, values in recipes.items()}
    _, labels = load_arrays("test")
    rows = comparison_rows(tested, _timings(recipes), parents, labels, [row["recipe"] for row in read_csv(TRIALS)])
    write_csv(COMPARISON, map(formatted, rows))
    write_csv(FLIPS, flip_rows(tested, labels), FLIP_COLUMNS)
    write_json(SUMMARY, headline_metrics(rows))
    write_json(RECIPES, recipe_history(tested))
    write_json(PREDICTIONS, predicted_classes(tested, labels))


def _timings(recipes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the stage benchmark found for each of ``recipes``; `UserError` if one is missing."""
    found = read_json(BENCHMARK)
    if missing := [recipe for recipe in recipes if recipe not in found.get("recipes", {})]:
        raise UserError(f"{BENCHMARK}: holds no timing of {', '.join(missing)}; run `dvc repro benchmark`")
    return {recipe: {"edition": found["edition"], **found["recipes"][recipe]} for recipe in recipes}


if __name__ == "__main__":
    run_stage(main)
