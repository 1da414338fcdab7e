"""Measure the trained network on train, validation and test, and find the epoch that reached the target accuracy.

Its logits are divided by the temperature that fits validation best, as in the ONNX file of `dense`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from src.core.device import pick_device, seed_everything
from src.core.files import write_csv, write_json
from src.core.params import Settings, Shared, load_params
from src.core.recipes import ROOT
from src.core.stage import run_stage
from src.data.prepared import SPLITS, SplitName, load_info, load_split
from src.network.inference import predict
from src.network.record import network_path
from src.network.temperature import fitted_temperature
from src.network.vgg import load
from src.results.curves import FOLDER, read_curves, target_metrics
from src.results.evaluation import (
    EvaluateSettings,
    Predictions,
    confident_mistakes,
    per_class,
    predictions,
    reliability,
    split_metrics,
)

METRICS = Path("metrics/evaluate.json")
CONFUSION = Path("plots/confusion.csv")
PER_CLASS = Path("plots/per_class.csv")
RELIABILITY = Path("plots/reliability.csv")
SPLIT_FIGURES = Path("plots/splits.csv")
MISTAKES = Path("plots/mistakes.csv")
MISTAKE_COLUMNS = ("index", "actual", "predicted", "confidence")
# What `dvc exp show` and `dvc metrics diff` show of each split; plots/splits.csv has the rest
HEADLINES = {
    "train": ("accuracy", "balanced_accuracy"),
    "validation": ("accuracy", "balanced_accuracy"),
    "test": ("accuracy", "balanced_accuracy", "loss", "expected_calibration_error"),
}
Row = dict[str, object]


class TrainSettings(Settings):
    """What this stage reads from the section ``train`` of params.yaml."""

    target_accuracy: float = Field(gt=0, le=1)


class Params(Shared):
    """What this stage reads from params.yaml."""

    train: TrainSettings
    evaluate: EvaluateSettings


def main() -> None:
    """Write the headline numbers, and the tables of splits, confusion, classes, calibration and mistakes."""
    params = load_params("evaluate", Params)
    seed_everything(params.seed)
    target = target_metrics(read_curves(FOLDER), params.train.target_accuracy)
    logits = _logits(pick_device(params.device))
    temperature = fitted_temperature(*logits["validation"])
    scored = {name: predictions(found / temperature, labels) for name, (found, labels) in logits.items()}
    test, bins, info = scored["test"], params.evaluate.calibration_bins, load_info()
    write_csv(CONFUSION, confusion_rows(test, info.classes))
    write_csv(PER_CLASS, class_rows(scored, info.classes))
    write_csv(RELIABILITY, map(asdict, reliability(test, bins)))
    write_csv(MISTAKES, mistake_rows(test, params.evaluate.mistakes, info.classes), MISTAKE_COLUMNS)
    figures = {name: split_metrics(scored[name], bins) for name in SPLITS}
    write_csv(SPLIT_FIGURES, ({"split": name, "edition": info.edition} | figures[name] for name in SPLITS))
    head = target | {"temperature": temperature}
    write_json(METRICS, head | {name: {key: figures[name][key] for key in HEADLINES[name]} for name in SPLITS})


def _logits(device: torch.device) -> dict[SplitName, tuple[Tensor, Tensor]]:
    """Return logits [N, classes] and true classes int64 [N] of each split."""
    model, splits = load(network_path(ROOT), device), {name: load_split(name) for name in SPLITS}
    return {
        name: (predict(model, split.images.to(device), description=f"evaluate {name}"), split.labels)
        for name, split in splits.items()
    }


def confusion_rows(test: Predictions, classes: Sequence[str]) -> list[Row]:
    """Return a row per test image, in order, with names of ``classes``: DVC's confusion templates count rows."""
    pairs = zip(test.labels, test.predicted, strict=True)
    return [{"actual": classes[actual], "predicted": classes[predicted]} for actual, predicted in pairs]


def class_rows(scored: dict[SplitName, Predictions], classes: Sequence[str]) -> list[Row]:
    """Return a row for each of ``classes``, with a column for each figure on each split."""
    figures = {name: per_class(scored[name]) for name in SPLITS}
    return [
        {"class": label} | {f"{name}_{key}": value for name in SPLITS for key, value in figures[name][number].items()}
        for number, label in enumerate(classes)
    ]


def mistake_rows(test: Predictions, count: int, classes: Sequence[str]) -> list[Row]:
    """Return a row for each of the ``count`` most confident mistakes; ``index`` is the image's place in test.

    ``classes``: their names.
    """
    return [
        {
            "index": int(index),
            "actual": classes[test.labels[index]],
            "predicted": classes[test.predicted[index]],
            "confidence": float(test.confidence[index]),
        }
        for index in confident_mistakes(test, count)
    ]


if __name__ == "__main__":
    run_stage(main)
