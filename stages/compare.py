"""Put all recipes into one table, with a summary and how each recipe came about."""

from pathlib import Path
from typing import Any

from pydantic import Field

from src.core.errors import ParamsError, exit_cleanly
from src.core.files import read_json, write_csv, write_json
from src.core.params import PARAMS, Settings, load_params
from src.report.comparison import (
    COMPARISON,
    DENSE,
    RECIPES,
    comparison_rows,
    formatted,
    headline_metrics,
    recipe_history,
)

TESTED = Path("models/tested")
TIMINGS = Path("metrics/benchmark")
SUMMARY = Path("metrics/summary.json")


class CompressSettings(Settings):
    """The section ``compress`` of params.yaml, of which only the recipes' names matter here."""

    recipes: dict[str, Any] = Field(min_length=1)


class Params(Settings):
    """What this stage reads of params.yaml."""

    compress: CompressSettings


def main() -> None:
    """Compare the recipes of params.yaml; files of recipes that are no longer there are ignored."""
    recipes = load_params("compare", Params).compress.recipes
    if DENSE not in recipes:
        raise ParamsError(f"{PARAMS}: compress.recipes: {DENSE} is missing; the others are measured against it")
    tested, timings = (
        {recipe: read_json(folder / f"{recipe}.json") for recipe in recipes} for folder in (TESTED, TIMINGS)
    )
    rows = comparison_rows(tested, timings)
    write_csv(COMPARISON, map(formatted, rows))
    write_json(SUMMARY, headline_metrics(rows))
    write_json(RECIPES, recipe_history(tested))


if __name__ == "__main__":
    exit_cleanly(main)
