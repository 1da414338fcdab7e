"""Put all recipes into one table, with intervals, a summary, and how each recipe came about."""

from pathlib import Path
from typing import Any

from src.core.errors import UserError
from src.core.files import read_csv, read_json, write_csv, write_json
from src.core.params import Settings, load_params
from src.core.recipes import RecipesSection
from src.core.stage import run_stage
from src.data.prepared import PREPARED, load_arrays, load_info
from src.export.measured import measured
from src.results import comparison
from src.results.history import RECIPES, recipe_history

SUMMARY = Path("metrics/summary.json")


class CompareSection(RecipesSection):
    """What this stage reads from the section ``compress``: the recipes, and the importance that prune_channels has."""

    steps: dict[str, dict[str, str]]


class Params(Settings):
    """What this stage reads from params.yaml."""

    compress: CompareSection
    compare: comparison.CompareSettings
    coded: list[str]
    release: list[str]


def main() -> None:
    """Compare the recipes of params.yaml; files of recipes that are no longer there are ignored."""
    params, info = load_params("compare", Params), load_info()
    recipes = params.compress.recipes
    tested = {recipe: measured(recipe, recipe in params.coded) for recipe in recipes}
    parents = {recipe: values["from"] for recipe, values in recipes.items()}
    timings, trials = _timings(recipes), [row["recipe"] for row in read_csv(comparison.TRIALS, "recipe")]
    comparison.require_one_edition(tested, timings, {str(PREPARED): {"edition": info.edition}})
    _, labels = load_arrays("test")
    rows = comparison.comparison_rows(tested, timings, parents, labels, trials, params.compare.margin)
    write_csv(comparison.COMPARISON, map(comparison.formatted, rows))
    pairs = comparison.pair_rows(comparison.correct_images(tested, labels))
    write_csv(comparison.PAIRS, pairs, comparison.PAIR_COLUMNS)
    write_csv(comparison.FLIPS, comparison.flip_rows(tested, labels, info.classes), comparison.FLIP_COLUMNS)
    write_csv(comparison.WEIGHTS, _of_all(tested, "weights"), comparison.WEIGHT_COLUMNS)
    write_csv(comparison.CODEBOOK, _of_all(tested, "codebook"), comparison.CODEBOOK_COLUMNS)
    write_json(comparison.DATASET, info.model_dump())
    write_json(SUMMARY, comparison.headline_metrics(rows) | _warned(rows, params.release))
    write_json(RECIPES, recipe_history(tested, recipes, params.compress.steps))
    write_json(comparison.PREDICTIONS, comparison.predicted_classes(tested, labels))


def _warned(rows: list[dict[str, Any]], released: list[str]) -> dict[str, str]:
    """Print a line for each recipe in ``released`` that is not the best at its cost; return the same as notes."""
    recipes, notes = {row["recipe"] for row in rows}, {}
    for name in released:
        if name in recipes and (other := comparison.better_on_validation(rows, name)):
            print(f"warning: {name} is released, but {other} is better on validation at as many MACs and bytes")
            notes[f"{name}_better_on_validation"] = other
    return notes


def _of_all(tested: dict[str, dict[str, Any]], table: str) -> list[dict[str, Any]]:
    """Return the rows of the ``table`` that the stage export measured of each recipe, with the recipe's name."""
    return [{"recipe": recipe, **row} for recipe, values in tested.items() for row in values[table]]


def _timings(recipes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the stage benchmark found for each of ``recipes``; `UserError` if one is missing."""
    timed = read_json(comparison.BENCHMARK, "edition", "recipes")
    if missing := [recipe for recipe in recipes if recipe not in timed["recipes"]]:
        raise UserError(f"{comparison.BENCHMARK}: holds no timing of {', '.join(missing)}; run `dvc repro benchmark`")
    return {recipe: {"edition": timed["edition"], **timed["recipes"][recipe]} for recipe in recipes}


if __name__ == "__main__":
    run_stage(main)
