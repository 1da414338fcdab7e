"""The picture of a training run: loss and accuracy of each epoch, and below them learning rate and image size."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.data.prepared import DatasetInfo
from src.pictures.style import COLORS, SPLIT_COLORS, new_figure, titled
from src.results.curves import Curves, epoch_of_target

SPLITS = {"train": "train", "validation": "val"}  # and their names among the curves


def training(curves: Curves, reference: Curves, target: float, info: DatasetInfo) -> Figure:
    """Return a figure of the run ``curves``, with a line at the validation accuracy ``target``.

    ``curves`` are those of `src.results.curves.read_curves`. ``reference`` holds ``train_accuracy`` and
    ``val_accuracy`` of another run, which is drawn in gray; it may be empty.
    """
    figure = new_figure(12, 6.5)
    figure.suptitle(titled("Training", info))
    (losses, accuracies), (rates, sizes) = figure.subplots(2, 2, height_ratios=[3, 1])
    _draw_losses(losses, curves)
    _draw_accuracies(accuracies, curves, reference, target)
    _line(rates, curves["step"], curves["learning_rate"], None, COLORS["purple"])
    rates.set(title="Learning rate at the end of each epoch", ylabel="learning rate", ylim=(0, None))
    _line(sizes, curves["step"], curves["image_size"], None, COLORS["black"], drawstyle="steps-mid")
    sides = sorted({0, *curves["image_size"]})
    sizes.set(title="Training image size", ylabel="side (pixels)", ylim=(0, 1.125 * sides[-1]), yticks=sides)
    return figure


def _draw_losses(axes: Axes, curves: Curves) -> None:
    for split, name in SPLITS.items():
        _line(axes, curves["step"], curves[f"{name}/loss"], split, SPLIT_COLORS[split])
    axes.set(title="Loss (train: augmented and label-smoothed as the recipe says)", ylabel="mean cross-entropy (nats)")
    axes.legend(loc="upper right")


def _draw_accuracies(axes: Axes, curves: Curves, reference: Curves, target: float) -> None:
    for split, name in SPLITS.items():
        _line(axes, curves["step"], curves[f"{name}/accuracy"], split, SPLIT_COLORS[split])
    for split, name in SPLITS.items() if reference else ():
        values, style = reference[f"{name}_accuracy"], ":" if split == "train" else "-"
        label, epochs = f"original study, {split}", range(1, len(values) + 1)
        _line(axes, epochs, values, label, COLORS["gray"], linestyle=style, alpha=0.55, marker="")
    epoch = epoch_of_target(curves, target)
    reached = "not reached" if epoch is None else f"reached in epoch {epoch}"
    label = f"target {target:.2f} ({reached})"
    axes.axhline(target, linestyle="--", color=COLORS["red"], label=label)
    axes.set(title="Accuracy", ylabel="accuracy (share correct)", ylim=(None, 1.02))
    axes.legend(loc="lower right")


def _line(
    axes: Axes, epochs: Sequence[float], values: Sequence[float], label: str | None, color: str, **style: Any
) -> None:
    axes.plot(epochs, values, label=label, color=color, **{"marker": ".", **style})
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
