"""Say how good the trained network is on train, validation and test, where it errs, and how its training went."""

from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import Field

from src.analysis.evaluation import (
    EvaluateSettings,
    Predictions,
    confident_mistakes,
    per_class,
    predictions,
    reliability,
    summary,
)
from src.core.dataset import CLASSES, SPLITS, Split, SplitName, load_split, load_statistics
from src.core.device import pick_device
from src.core.errors import exit_cleanly
from src.core.files import read_csv, write_csv, write_json
from src.core.params import Settings, Shared, load_params
from src.network.inference import predict
from src.network.vgg import load
from src.pictures import evaluation as pictures
from src.pictures.style import save_figure
from src.pictures.training import read_curves, training

MODEL = Path("models/vgg16.safetensors")
CURVES = Path("plots/training")
REFERENCE = Path("data/reference/original-training.csv")
METRICS = Path("metrics/evaluate.json")
PLOTS = Path("plots")


class TrainSettings(Settings):
    """What this stage reads of the section ``train``."""

    target_accuracy: float = Field(gt=0, le=1)


class Params(Shared):
    """What this stage reads of params.yaml."""

    train: TrainSettings
    evaluate: EvaluateSettings


def main() -> None:
    """Evaluate the network; figures of whole splits go to metrics/evaluate.json, of classes to plots/per_class.csv."""
    params = load_params("evaluate", Params)
    edition, splits = load_statistics().edition, {name: load_split(name) for name in SPLITS}
    found = _predictions(splits, pick_device(params.device))
    _picture_training(params.train.target_accuracy, edition)
    _confusion(found["test"], edition)
    _classes(found, edition)
    _calibration(found["test"], params.evaluate.calibration_bins, edition)
    _mistakes(found["test"], splits["test"], params.evaluate.mistakes, edition)
    bins = params.evaluate.calibration_bins
    write_json(METRICS, {"edition": edition} | {name: summary(found[name], bins) for name in SPLITS})


def _predictions(splits: dict[SplitName, Split], device: torch.device) -> dict[SplitName, Predictions]:
    model = load(MODEL, device)
    return {name: predictions(predict(model, split.images.to(device)), split.labels) for name, split in splits.items()}


def _picture_training(target: float, edition: str) -> None:
    rows = read_csv(REFERENCE)
    reference = {name: [row[name] for row in rows] for name in ("train_accuracy", "val_accuracy")}
    save_figure(training(read_curves(CURVES), reference, target, edition), PLOTS / "train.png")


def _confusion(test: Predictions, edition: str) -> None:
    """One row a test image, which is what DVC's confusion templates count."""
    pairs = zip(test.labels, test.predicted, strict=True)
    write_csv(PLOTS / "confusion.csv", ({"actual": CLASSES[a], "predicted": CLASSES[p]} for a, p in pairs))
    save_figure(pictures.confusion(test, edition), PLOTS / "confusion.png")


def _classes(found: dict[SplitName, Predictions], edition: str) -> None:
    """One row a class, a column for each figure on each split (DVC plots columns, not groups of rows)."""
    figures = {name: per_class(found[name]) for name in SPLITS}
    rows = [
        {"class": label} | {f"{name}_{key}": value for name in SPLITS for key, value in figures[name][number].items()}
        for number, label in enumerate(CLASSES)
    ]
    write_csv(PLOTS / "per_class.csv", rows)
    accuracies = {name: [row["accuracy"] for row in figures[name]] for name in SPLITS}
    save_figure(pictures.per_class(accuracies, edition), PLOTS / "per_class.png")


def _calibration(test: Predictions, count: int, edition: str) -> None:
    bins = reliability(test, count)
    write_csv(PLOTS / "reliability.csv", map(asdict, bins))
    save_figure(pictures.reliability(bins, edition), PLOTS / "reliability.png")


def _mistakes(test: Predictions, split: Split, count: int, edition: str) -> None:
    chosen = confident_mistakes(test, count)
    images = split[torch.from_numpy(chosen)]
    figure = pictures.mistakes(images, test.predicted[chosen], test.confidence[chosen], edition)
    save_figure(figure, PLOTS / "mistakes.png")


if __name__ == "__main__":
    exit_cleanly(main)
