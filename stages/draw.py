"""Draw every picture from the tables that the other stages wrote."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from pydantic import Field

from src.core.files import read_csv, read_json
from src.core.params import Settings, load_params
from src.core.recipes import CutSection
from src.core.stage import run_stage
from src.data.prepared import CIFAR10, SPLITS, DatasetInfo, load_info, load_split
from src.pictures import evaluation
from src.pictures.classes import accuracy_by_class
from src.pictures.distribution import weights_and_codebooks
from src.pictures.family import family_tree
from src.pictures.pareto import pareto
from src.pictures.separation import positions, separation_by_class, separation_by_layer
from src.pictures.style import save_figure
from src.pictures.training import augmentation, one_class_after_another, training
from src.pictures.widths import widths_by_layer
from src.results import comparison
from src.results.columns import COLUMNS, COSTS, Row
from src.results.curves import FOLDER, read_curves
from src.results.evaluation import Bin
from src.results.history import RECIPES
from src.training.recipe import chosen_recipe

PICTURES = Path("plots/pictures")
REFERENCE_TRAINING = Path("data/reference/original-training.csv")
REFERENCE_CSI = Path("data/reference/original-csi.csv")
PUBLISHED = Path("data/reference/published-bytes.csv")
PARETO = {column: f"pareto_{column.partition('_')[0]}" for column in COSTS}  # the names of the pictures
STORED = ("half", "quantize", "quantize_weights")  # techniques that change only how numbers are stored
PROTOCOLS = tuple(f"{split}{kind}" for split in ("train", "test") for kind in ("", "_same", "_many", "_in_sample"))
INDICES = ("csi", "csi_gap_error", "csi_pooled", "probe", "probe_gap_error", "si", "effective_rank")


class DrawSettings(Settings):
    """The section ``draw`` of params.yaml."""

    pictured: int = Field(ge=1, le=20)


class TrainSettings(Settings):
    """What this stage reads from the section ``train`` of params.yaml."""

    recipe: str
    target_accuracy: float
    defaults: dict[str, Any]
    recipes: dict[str, Any]


class Params(Settings):
    """What this stage reads from params.yaml."""

    seed: int = Field(ge=0, lt=2**32)
    draw: DrawSettings
    train: TrainSettings
    compress: CutSection


def main() -> None:
    """Write plots/pictures/*.png."""
    params = load_params("draw", Params)
    info, test = load_info(), load_split("test")
    confusion = read_csv(Path("plots/confusion.csv"), "actual", "predicted")
    classes = read_csv(Path("plots/per_class.csv"), "class", *(f"{split}_accuracy" for split in SPLITS))
    flips = read_csv(comparison.FLIPS, *comparison.FLIP_COLUMNS)
    images = dict(zip(info.classes, test.labels.bincount(minlength=len(info.classes)).tolist(), strict=True))
    bins = read_csv(Path("plots/reliability.csv"), *Bin.__annotations__)
    mistakes = read_csv(Path("plots/mistakes.csv"), "index", "actual", "predicted", "confidence")
    layers = read_csv(Path("plots/csi.csv"), "layer", "kind", "block", *PROTOCOLS)
    cuts = read_csv(Path("plots/positions.csv"), "block", *INDICES)
    figures = {
        "augmentation": _augmentation(params, info),
        "train": _training(params.train.target_accuracy, info),
        "confusion": evaluation.confusion(confusion, info),
        "per_class": evaluation.class_accuracy(classes, info),
        "reliability": evaluation.reliability_diagram(bins, info),
        "mistakes": evaluation.mistakes(mistakes, test.images, info),
        "csi": separation_by_layer(layers, on_cifar10(REFERENCE_CSI, info, "layer", "train_csi", "test_csi"), info),
        "positions": positions(cuts, params.compress.epsilon, info),
        "csi_by_class": separation_by_class(read_csv(Path("plots/csi_by_class.csv"), "layer", *info.classes), info),
        **_recipes(info),
        "classes": accuracy_by_class(flips, images, info),
    }
    for name, figure in figures.items():
        save_figure(figure, PICTURES / f"{name}.png")


def _augmentation(params: Params, info: DatasetInfo) -> Figure:
    train = params.train
    recipe = chosen_recipe(train.recipe, train.defaults, train.recipes)
    shown = one_class_after_another(load_split("train"), params.draw.pictured)
    return augmentation(shown, recipe.crop_padding, recipe.flip != "never", params.seed, info, recipe.cutout)


def _training(target: float, info: DatasetInfo) -> Figure:
    names = ("train_accuracy", "val_accuracy")
    rows = on_cifar10(REFERENCE_TRAINING, info, *names)
    reference = {name: [row[name] for row in rows] for name in names} if rows else {}
    return training(read_curves(FOLDER), reference, target, info)


def on_cifar10(path: Path, info: DatasetInfo, *columns: str) -> list[Row]:
    """Return the rows of ``path``, a table of what others reached on CIFAR-10; none if the data are others."""
    return read_csv(path, *columns) if info.name == CIFAR10 else []


def _recipes(info: DatasetInfo) -> dict[str, Figure]:
    """Return the pictures of the recipes: accuracy against each cost, the tree, widths of pruned networks, weights."""
    rows = read_csv(comparison.COMPARISON, *(column.name for column in COLUMNS))
    pairs = read_csv(comparison.PAIRS, *comparison.PAIR_COLUMNS)
    histories = read_json(RECIPES, "recipes")["recipes"]
    controls = {name for name, history in histories.items() if history["control"]}
    bins = read_csv(comparison.WEIGHTS, *comparison.WEIGHT_COLUMNS)
    books = read_csv(comparison.CODEBOOK, *comparison.CODEBOOK_COLUMNS)
    figures = {
        "family": family_tree(rows, histories, info),
        "widths": widths_by_layer(histories, info),
        "weights": weights_and_codebooks(bins, books, info),
    }
    for cost, name in PARETO.items():
        others = _published(info) if cost == "stored_bytes" else {}
        figures[name] = pareto(_seen(rows, cost, histories), pairs, cost, info, controls, others)
    return figures


def _published(info: DatasetInfo) -> dict[str, tuple[float, float]]:
    """Return bytes and accuracy (%) of the networks of others; none unless the data are the whole of CIFAR-10."""
    rows = on_cifar10(PUBLISHED, info, "network", "bytes", "accuracy") if info.edition == "official" else []
    return {row["network"]: (row["bytes"], row["accuracy"]) for row in rows}


def _seen(rows: list[Row], cost: str, histories: dict[str, Row]) -> list[Row]:
    """Return those of ``rows`` that ``cost`` can tell from their parents: MACs do not see how numbers are stored."""
    return [row for row in rows if cost != "macs" or histories[row["recipe"]]["step"] not in STORED]


if __name__ == "__main__":
    run_stage(main)
