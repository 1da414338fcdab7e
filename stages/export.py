"""Write the ONNX file of one recipe, and measure what needs no test images: bytes, MACs, validation accuracy."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from src.compression.candidate import Candidate, random_images
from src.compression.record import load_candidate
from src.core.arrays import load_arrays
from src.core.dataset import load_split
from src.core.device import seed_everything
from src.core.files import write_json
from src.core.params import Settings, load_params, recipe_name
from src.core.stage import run_stage
from src.deployment.onnx import Calibration, export, nonzero_parameters
from src.deployment.runtime import logits
from src.network.cost import macs, parameters
from src.network.folding import folded
from src.network.vgg import VGG

FILES = Path("models/onnx")


class Params(Settings):
    """What this stage reads of params.yaml."""

    seed: int = Field(ge=0, lt=2**32)


def main() -> None:
    """Write models/onnx/RECIPE.onnx and what is known of it to models/onnx/RECIPE.json."""
    name = recipe_name("export", __doc__)
    params = load_params("export", Params, key=name)
    seed_everything(params.seed)
    candidate, record = load_candidate(name)
    network = folded(candidate.network) if candidate.export.fold else candidate.network
    file = FILES / f"{name}.onnx"
    export(network, file, candidate.export.precision == "float16", _calibration(candidate, params.seed))
    head = {"recipe": name, "edition": record.edition, "val_accuracy": _validation_accuracy(file)}
    write_json(FILES / f"{name}.json", head | _cost(network, file) | _history(candidate))


def _calibration(candidate: Candidate, seed: int) -> Calibration | None:
    settings = candidate.export
    if settings.precision != "int8":
        return None
    images = random_images(load_split("train"), settings.calibration_images, seed).images
    return Calibration(images.numpy(), settings.calibration_method)


def _validation_accuracy(file: Path) -> float:
    images, labels = load_arrays("validation")
    return float(np.mean(logits(file, images).argmax(1) == labels))


def _cost(network: VGG, file: Path) -> dict[str, Any]:
    return {
        "parameters": parameters(network),
        "nonzero_parameters": nonzero_parameters(network, file),
        "macs": macs(network),
        "bytes": file.stat().st_size,
        "widths": {
            "convolutions": {block.name: block.channels for block in network.plan.convolutions},
            "hidden": {block.name: block.width for block in network.plan.head},
        },
    }


def _history(candidate: Candidate) -> dict[str, Any]:
    """Return how the network came about: steps, notes, and the training spent on the path from the root's start."""
    return {
        "steps": list(candidate.steps),
        "note": "; ".join(candidate.notes),
        "image_passes": candidate.image_passes,
        "pflop": candidate.pflop,
    }


if __name__ == "__main__":
    run_stage(main)
