"""Compress the trained network by one recipe of params.yaml, and measure the ONNX file that comes out."""

from pathlib import Path
from typing import Any

from src.compression.candidate import Candidate, Context
from src.compression.tree import CompressSettings, parse, run
from src.core.dataset import load_split, load_statistics
from src.core.device import pick_device, seed_everything
from src.core.errors import exit_cleanly
from src.core.files import read_csv, write_json
from src.core.params import Shared, load_params, recipe_name
from src.deployment.onnx import accuracy, export, nonzero_parameters
from src.network.cost import macs, parameters
from src.network.vgg import VGG, load
from src.techniques.truncate import feature_csi
from src.training.loop import Row, Silent

MODEL = Path("models/vgg16.safetensors")
CSI = Path("plots/csi.csv")
FILES = Path("models/compressed")
METRICS = Path("metrics/compress")


class Params(Shared):
    """What this stage reads of params.yaml."""

    compress: CompressSettings


class Lines(Silent):
    """A `training.Reporter` that prints a line an epoch."""

    def epoch(self, row: Row) -> None:
        """Print ``row``."""
        print("fine-tuning: " + "  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)


def main() -> None:
    """Run the recipe, write the ONNX file, and write what it is and how good it is."""
    recipe = recipe_name("compress", __doc__)
    params = load_params("compress", Params, key=recipe)
    steps = parse(recipe, params.compress.recipes[recipe])
    device = pick_device(params.device)
    seed_everything(params.seed)
    dense = load(MODEL, device)
    candidate = run(steps, Candidate(dense), _context(dense, params.seed))
    file = FILES / f"{recipe}.onnx"
    export(candidate.network, file, candidate.calibration)
    write_json(METRICS / f"{recipe}.json", {"recipe": recipe} | measured(candidate, file))


def measured(candidate: Candidate, file: Path) -> dict[str, Any]:
    """Accuracy and bytes of the file, size and cost of its network, and how it came about."""
    network, plan = candidate.network, candidate.network.plan
    return {
        "edition": load_statistics().edition,
        "val_accuracy": accuracy(file, load_split("validation")),
        "test_accuracy": accuracy(file, load_split("test")),
        "parameters": parameters(network),
        "nonzero_parameters": nonzero_parameters(network, file),
        "macs": macs(network),
        "bytes": file.stat().st_size,
        "plan": {"convolutions": [layer.channels for layer in plan.convolutions], "head": list(plan.head)},
        "steps": list(candidate.steps),
        "note": "; ".join(candidate.notes),
    }


def _context(dense: VGG, seed: int) -> Context:
    device = dense.mean.device
    train, validation = load_split("train").to(device), load_split("validation").to(device)
    return Context(train, validation, feature_csi(dense.plan, read_csv(CSI)), seed, Lines())


if __name__ == "__main__":
    exit_cleanly(main)
