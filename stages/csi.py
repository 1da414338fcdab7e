"""Measure how well every layer of the trained network separates the classes (CSI), in both protocols."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from src.analysis.separation import (
    ClassCenters,
    CsiSettings,
    Layer,
    Score,
    balanced,
    class_centers,
    in_sample,
    layers,
    plateau,
    separation,
)
from src.core.arrays import SPLITS
from src.core.dataset import load_split
from src.core.device import pick_device, seed_everything
from src.core.files import write_csv, write_json
from src.core.params import Shared, load_params
from src.core.stage import run_stage
from src.network.vgg import load

MODEL = Path("models/networks/vgg16.safetensors")
METRICS = Path("metrics/csi.json")
TABLE = Path("plots/csi.csv")
Row = dict[str, Any]


class Params(Shared):
    """What this stage reads from params.yaml."""

    csi: CsiSettings


def main() -> None:
    """Write a table with one row for each layer, and the headline numbers."""
    params = load_params("csi", Params)
    seed_everything(params.seed)
    splits = {name: load_split(name) for name in SPLITS}
    few = {
        "train": balanced(splits["train"], "train", params.csi.in_sample_train, params.seed),
        "test": balanced(splits["test"], "test", params.csi.in_sample_test, params.seed),
    }
    model = load(MODEL, pick_device(params.device))
    centers = class_centers(model, splits["train"])
    scores = {name: separation(model, splits[name], centers, leave_one_out=name == "train") for name in SPLITS}
    scores |= {f"{name}_in_sample": in_sample(model, split) for name, split in few.items()}
    rows = [_row(index, layer, centers, scores) for index, layer in enumerate(layers(model))]
    write_csv(TABLE, rows)
    write_json(METRICS, headline(rows, len(splits["validation"])))


def _row(
    index: int, layer: Layer, centers: Mapping[str, ClassCenters], scores: Mapping[str, Mapping[str, Score]]
) -> Row:
    return {
        "index": index,
        **asdict(layer),
        "dead_channels": centers[layer.layer].dead_share(layer.channels),
        **{name: score[layer.layer].csi for name, score in scores.items()},
        "tie_rate": scores["train"][layer.layer].tie_rate,
    }


def headline(rows: list[Row], images: int) -> Row:
    """Return the layer where CSI on validation stops rising, the CSI there, and the CSI of the last layer.

    ``images`` is the number of validation images.
    """
    plateau_row = rows[plateau([row["validation"] for row in rows], images)]
    return {
        "plateau_layer": plateau_row["layer"],
        "plateau_validation": plateau_row["validation"],
        "last_validation": rows[-1]["validation"],
    }


if __name__ == "__main__":
    run_stage(main)
