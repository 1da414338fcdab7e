"""The curves of a training run: read them, and find where validation accuracy first reached a target."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.core.errors import UserError, one_line

FOLDER = Path("plots/training/plots/metrics")  # where DVCLive writes them
CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "learning_rate", "image_size", "pflop")
Curves = Mapping[str, Sequence[float]]


def read_curves(folder: Path) -> dict[str, list[float]]:
    """Return the curves of `CURVES` in ``folder``, the plots of DVCLive, by name: a value per epoch, in order.

    ``step`` is the number of each epoch, from 1; weights from elsewhere have one row, of epoch 0. ``pflop`` is the cost
    of training up to the end of each epoch, in 10^15 floating-point operations. Raises `UserError` if a curve is
    missing or damaged, or if the curves have different numbers of epochs.
    """
    paths = {name: folder / f"{name}.tsv" for name in CURVES}
    curves = {name: _read_column(path, path.stem) for name, path in paths.items()}
    if len({len(values) for values in curves.values()}) > 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in curves.items())
        raise UserError(f"{folder}: the curves have different numbers of epochs ({lengths}); run `dvc repro train`")
    return {"step": _read_column(paths["val/accuracy"], "step"), **curves}


def _read_column(path: Path, column: str) -> list[float]:
    """Return the numbers in ``column`` of the tab-separated table ``path``."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file, delimiter="\t")
            if column not in (table.fieldnames or ()):
                raise ValueError(f"it has no column {column}")
            values = [float(row[column]) for row in table]
        if not values:
            raise ValueError("it has no row")
        return values
    except Exception as error:  # a damaged file can raise almost anything
        raise UserError(f"{path}: not a curve of a training run ({one_line(error)}); run `dvc repro train`") from None


def epoch_of_target(curves: Curves, target: float) -> int | None:
    """Return the first epoch whose validation accuracy is at least ``target``; None if there is none.

    ``curves`` needs only ``step`` and ``val/accuracy``.
    """
    place = _place_of_target(curves, target)
    return None if place is None else int(curves["step"][place])


def target_metrics(curves: Curves, target: float) -> dict[str, Any]:
    """Return the epoch and the PFLOP at which the target accuracy was first reached; None if it never was."""
    place = _place_of_target(curves, target)
    pflop = None if place is None else curves["pflop"][place]
    return {"target_epoch": epoch_of_target(curves, target), "target_pflop": pflop}


def _place_of_target(curves: Curves, target: float) -> int | None:
    return next((place for place, accuracy in enumerate(curves["val/accuracy"]) if accuracy >= target), None)
