"""Write the ONNX file of one recipe, and measure what needs no test images: bytes, MACs, validation accuracy.

The logits in the file are divided by the temperature that fits validation best (`src.network.temperature`).
"""

import gzip
from pathlib import Path
from typing import Any

from pydantic import Field

from src.core.device import seed_everything
from src.core.files import write_json
from src.core.params import Settings, load_params, recipe_name
from src.core.stage import run_stage
from src.data.prepared import load_info, load_split
from src.export.onnx import Calibration, export, nonzero_parameters
from src.export.runtime import FILES, logits
from src.export.weights import codebook, histogram, layer_weights
from src.network.cost import macs, parameters
from src.network.folding import folded
from src.network.inference import predict
from src.network.record import Export, Record, load_recorded, network_path
from src.network.temperature import fitted_temperature, with_temperature
from src.network.vgg import VGG

GZIP_LEVEL = 6  # 10 s for 61 MB of float32 on one core; level 9 takes 18 s and saves 1 % more


class Params(Settings):
    """What this stage reads from params.yaml."""

    seed: int = Field(ge=0, lt=2**32)


def main() -> None:
    """Write models/onnx/RECIPE.onnx and what is known of it to models/onnx/RECIPE.json."""
    name = recipe_name("export", __doc__)
    params = load_params("export", Params, key=name)
    seed_everything(params.seed)
    stored, record = load_recorded(network_path(name))
    network, validation = folded(stored) if record.export.fold else stored, load_split("validation")
    temperature = fitted_temperature(predict(network, validation.images), validation.labels)
    network = with_temperature(network, temperature)
    file = FILES / f"{name}.onnx"
    print(f"export {name}: writes the file in {record.export.precision}", flush=True)
    calibration = _calibration(record.export, params.seed)
    export(network, file, record.export.precision == "float16", calibration, load_info().classes)
    predicted = logits(file, validation.images.numpy(), f"export {name}: validation").argmax(1)
    accuracy = float((predicted == validation.labels.numpy()).mean())
    print(f"export {name}: measures size and weights", flush=True)
    head = {"recipe": name, "edition": record.edition, "val_accuracy": accuracy, "temperature": temperature}
    write_json(FILES / f"{name}.json", head | _cost(network, file) | _history(record) | _weights(stored))


def _calibration(settings: Export, seed: int) -> Calibration | None:
    """Return how to write a network in int8; None if its precision is another."""
    if settings.precision != "int8":
        return None
    sample = load_split("train").sample(settings.calibration_images, seed)
    return Calibration(sample.images.numpy(), settings.calibration_method)


def _cost(network: VGG, file: Path) -> dict[str, Any]:
    return {
        "parameters": parameters(network),
        "nonzero_parameters": nonzero_parameters(network, file),
        "macs": macs(network),
        "bytes": file.stat().st_size,
        "packed_bytes": len(gzip.compress(file.read_bytes(), GZIP_LEVEL, mtime=0)),
        "widths": {
            "convolutions": {block.name: block.channels for block in network.plan.convolutions},
            "hidden": {block.name: block.width for block in network.plan.head},
        },
    }


def _weights(network: VGG) -> dict[str, Any]:
    """Return how the weights of ``network``, as stored, are distributed: rows for plots/weights.csv and codebook.csv.

    That is before the export folds BatchNorm and rounds: folding gives each channel a factor of its own, and rounding
    to int8 a grid of its own, and both would hide what the techniques did.
    """
    weights = layer_weights(network)
    return {"weights": histogram(weights), "codebook": codebook(weights)}


def _history(record: Record) -> dict[str, Any]:
    """Return how the network came about, and its account."""
    return {
        "steps": list(record.steps),
        "note": "; ".join(record.notes),
        **{key: getattr(record, key) for key in ("image_passes", "pflop", "pflop_after_root")},
    }


if __name__ == "__main__":
    run_stage(main)
