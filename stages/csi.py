"""Measure how well every layer of the trained network separates the classes (CSI), in both protocols."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from src.analysis.separation import CsiSettings, balanced, centres, in_sample, layers, plateau, separation
from src.core.dataset import SPLITS, load_split, load_statistics
from src.core.device import pick_device
from src.core.errors import exit_cleanly
from src.core.files import read_csv, write_csv, write_json
from src.core.params import Shared, load_params
from src.network.vgg import load
from src.pictures.csi import separation_by_layer
from src.pictures.style import save_figure

MODEL = Path("models/vgg16.safetensors")
REFERENCE = Path("data/reference/original-csi.csv")
METRICS = Path("metrics/csi.json")
TABLE = Path("plots/csi.csv")
PICTURE = Path("plots/csi.png")
Row = dict[str, Any]


class Params(Shared):
    """What this stage reads of params.yaml."""

    csi: CsiSettings


def main() -> None:
    """Write a row for each layer, the picture of them all, and the headline numbers."""
    params = load_params("csi", Params)
    edition, splits = load_statistics().edition, {name: load_split(name) for name in SPLITS}
    few = {
        "train": balanced(splits["train"], "train", params.csi.in_sample_train, params.seed),
        "test": balanced(splits["test"], "test", params.csi.in_sample_test, params.seed),
    }
    model = load(MODEL, pick_device(params.device))
    around = centres(model, splits["train"])
    scores = {name: separation(model, splits[name], around, leave_one_out=name == "train") for name in SPLITS}
    scores |= {f"{name}_in_sample": in_sample(model, split) for name, split in few.items()}
    rows = [
        {
            "index": index,
            **asdict(layer),
            "dead_channels": around[layer.layer].dead_share(layer.channels),
            **{name: score[layer.layer].csi for name, score in scores.items()},
            "tie_rate": scores["train"][layer.layer].tie_rate,
        }
        for index, layer in enumerate(layers(model))
    ]
    write_csv(TABLE, rows)
    save_figure(separation_by_layer(rows, read_csv(REFERENCE), edition), PICTURE)
    write_json(METRICS, {"edition": edition} | headline(rows, len(splits["validation"])))


def headline(rows: list[Row], images: int) -> Row:
    """Where CSI on validation (of ``images`` images) is best and where it has stopped rising, the last layer, the bias.

    The bias of the in-sample protocol is what it reads above the honest one on test.
    """
    best = max(rows, key=lambda row: row["validation"])
    plateau_row = rows[plateau([row["validation"] for row in rows], images)]
    biased = max(rows, key=_bias)
    return {
        "best_layer": best["layer"],
        "best_validation": best["validation"],
        "plateau_layer": plateau_row["layer"],
        "plateau_validation": plateau_row["validation"],
        "last_layer": rows[-1]["layer"],
        **{f"last_{name}": rows[-1][name] for name in SPLITS},
        "largest_bias_layer": biased["layer"],
        "largest_bias": _bias(biased),
    }


def _bias(row: Row) -> float:
    return row["test_in_sample"] - row["test"]


if __name__ == "__main__":
    exit_cleanly(main)
