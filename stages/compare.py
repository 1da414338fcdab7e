"""Put all recipes into one table, a summary and three pictures."""

from pathlib import Path
from typing import Any

from pydantic import Field

from src.core.errors import ParamsError, exit_cleanly
from src.core.files import read_json, write_csv, write_json
from src.core.params import PARAMS, Settings, load_params
from src.pictures.pareto import pareto
from src.pictures.style import save_figure
from src.report.comparison import COMPARISON, DENSE, compare, formatted, summary

METRICS = Path("metrics")
PICTURES = {
    "bytes": Path("plots/pareto_bytes.png"),
    "macs": Path("plots/pareto_macs.png"),
    "latency_b1_ratio": Path("plots/pareto_latency.png"),
}


class CompressSettings(Settings):
    """The section ``compress`` of params.yaml, of which only the recipes' names matter here."""

    recipes: dict[str, Any] = Field(min_length=1)


class Params(Settings):
    """What this stage reads of params.yaml."""

    compress: CompressSettings


def main() -> None:
    """Compare the recipes of params.yaml; metrics of recipes that are no longer there are passed over."""
    recipes = load_params("compare", Params).compress.recipes
    if DENSE not in recipes:
        raise ParamsError(f"{PARAMS}: compress.recipes: {DENSE} is missing; the others are measured against it")
    costs, timings = (
        {recipe: read_json(METRICS / stage / f"{recipe}.json") for recipe in recipes}
        for stage in ("compress", "benchmark")
    )
    rows = compare(costs, timings)
    write_csv(COMPARISON, map(formatted, rows))
    write_json(METRICS / "summary.json", summary(rows))
    for cost, path in PICTURES.items():
        save_figure(pareto(rows, cost), path)


if __name__ == "__main__":
    exit_cleanly(main)
