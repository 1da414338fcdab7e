"""Time the ONNX files of all recipes in turn, in one process."""

from collections.abc import Iterable
from pathlib import Path

from src.core.errors import UserError
from src.core.files import read_json, write_json
from src.core.params import Settings, load_params
from src.core.recipes import DENSE, RecipesSection
from src.core.stage import run_stage
from src.export.latency import THREADS, BenchmarkSettings, conditions, timings
from src.export.runtime import FILES, session

METRICS = Path("metrics/benchmark.json")


class Params(Settings):
    """What this stage reads from params.yaml."""

    benchmark: BenchmarkSettings
    compress: RecipesSection


def main() -> None:
    """Write latency and throughput of each recipe, and what they were measured on."""
    params = load_params("benchmark", Params)
    recipes, settings = params.compress.recipes, params.benchmark
    edition = common_edition(recipes)
    sessions = {recipe: session(FILES / f"{recipe}.onnx", THREADS) for recipe in recipes}
    timed = timings(sessions, settings)
    write_json(METRICS, {"edition": edition, **settings.model_dump(), **conditions(), "recipes": timed})


def common_edition(recipes: Iterable[str]) -> str:
    """Return the edition of the data that all ``recipes`` come from; `UserError` if they come from several."""
    editions = {recipe: read_json(FILES / f"{recipe}.json", "edition")["edition"] for recipe in recipes}
    if len(set(editions.values())) > 1:
        listed = ", ".join(f"{recipe} {edition}" for recipe, edition in editions.items())
        raise UserError(f"{FILES}: editions of the data differ ({listed}); only one can be timed: run `dvc repro`")
    return editions[DENSE]


if __name__ == "__main__":
    run_stage(main)
