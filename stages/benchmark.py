"""Time one recipe's ONNX file beside the dense one."""

from pathlib import Path

from src.core.errors import exit_cleanly
from src.core.files import read_json, write_json
from src.core.params import Settings, load_params, recipe_name
from src.deployment.latency import LARGE_BATCH, THREADS, BenchmarkSettings, conditions, paired_latency
from src.deployment.runtime import session

MODELS = Path("models/onnx")
DENSE = MODELS / "dense.onnx"
METRICS = Path("metrics/benchmark")


class Params(Settings):
    """What this stage reads of params.yaml."""

    benchmark: BenchmarkSettings


def main() -> None:
    """Write latency and throughput of the recipe named on the command line, and what they were measured on."""
    recipe = recipe_name("benchmark", __doc__)
    settings = load_params("benchmark", Params, recipe).benchmark
    edition = read_json(MODELS / f"{recipe}.json")["edition"]
    network, dense = (session(path, THREADS) for path in (MODELS / f"{recipe}.onnx", DENSE))
    one = paired_latency(network, dense, 1, settings.runs)
    many = paired_latency(network, dense, LARGE_BATCH, settings.batch_runs)
    head = {"recipe": recipe, "edition": edition, **settings.model_dump(), **conditions()}
    write_json(METRICS / f"{recipe}.json", {**head, "b1": one, f"b{LARGE_BATCH}": many})


if __name__ == "__main__":
    exit_cleanly(main)
