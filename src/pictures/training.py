"""The picture of a training run: loss and accuracy by epoch, with learning rate and image size below."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.core.errors import UserError
from src.pictures.style import COLOURS, SPLIT_COLOURS, new_figure

CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "learning_rate", "image_size")
REFERENCE_LABEL = "original study"
Curves = Mapping[str, Sequence[float]]


def read_curves(folder: Path) -> dict[str, list[float]]:
    """The curves that DVCLive wrote to ``folder``, by name, a value for each epoch from the first.

    Raises `UserError` if one is missing or damaged.
    """
    return {name: _read_curve(folder / "plots" / "metrics" / f"{name}.tsv") for name in CURVES}


def _read_curve(path: Path) -> list[float]:
    try:
        with path.open(newline="") as file:
            values = [float(row[path.stem]) for row in csv.DictReader(file, delimiter="\t")]
        if not values:
            raise ValueError("no epoch in it")
        return values
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a curve of a training run ({error}); run `dvc repro train`") from None


def training(curves: Curves, reference: Curves, target: float, edition: str) -> Figure:
    """Loss and accuracy of a run, ``target`` validation accuracy, and the run in ``reference`` drawn faintly.

    ``curves`` as `read_curves` gives them; ``reference`` holds ``train_accuracy`` and ``val_accuracy``.
    """
    figure = new_figure(12, 6.5)
    figure.suptitle(f"Training of VGG16 (CIFAR-10, {edition} edition)")
    (losses, accuracies), (rates, sizes) = figure.subplots(2, 2, height_ratios=[3, 1])
    for split, name in (("train", "train"), ("validation", "val")):
        _line(losses, curves[f"{name}/loss"], split, SPLIT_COLOURS[split])
        _line(accuracies, curves[f"{name}/accuracy"], split, SPLIT_COLOURS[split])
    for name, style in (("train_accuracy", ":"), ("val_accuracy", "-")):
        label = f"{REFERENCE_LABEL}, {'train' if name.startswith('train') else 'validation'}"
        _line(accuracies, reference[name], label, COLOURS["grey"], linestyle=style, alpha=0.55, marker="")
    accuracies.axhline(target, linestyle="--", color=COLOURS["red"], label=_target_label(curves, target))
    _line(rates, curves["learning_rate"], None, COLOURS["purple"])
    _line(sizes, curves["image_size"], None, COLOURS["black"], drawstyle="steps-mid")
    losses.set(
        title="Loss (train: augmented and label-smoothed as the recipe says)", ylabel="mean cross-entropy (nats)"
    )
    accuracies.set(title="Accuracy", ylabel="accuracy (share right)", ylim=(0, 1.02))
    rates.set(title="Learning rate at the end of each epoch", ylabel="learning rate", ylim=(0, None))
    sizes.set(title="Training image size", ylabel="side (pixels)", ylim=(0, 36), yticks=[0, 16, 24, 32])
    losses.legend(loc="upper right")
    accuracies.legend(loc="lower right")
    return figure


def _line(axes: Axes, values: Sequence[float], label: str | None, colour: str, **style: object) -> None:
    axes.plot(range(1, len(values) + 1), values, label=label, color=colour, **{"marker": ".", **style})
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _target_label(curves: Curves, target: float) -> str:
    passed = next((e for e, value in enumerate(curves["val/accuracy"], start=1) if value >= target), None)
    return f"target {target:.2f} ({f'reached in epoch {passed}' if passed else 'not reached'})"
