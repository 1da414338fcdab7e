"""The file of a network: plan, tensors, and the record of how it came about and how to export it."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, ValidationError

from src.core.errors import UserError, one_line
from src.core.params import Settings
from src.network.vgg import VGG, load_with_record, save

NETWORKS = Path("models/networks")


class Export(Settings):
    """How a network becomes an ONNX file.

    ``fold``: BatchNorm and a repeated pool are folded first. ``precision``: of the stored weights; int8 files also
    compute in eight bits, with ranges found on ``calibration_images`` training images by ``calibration_method``.
    """

    fold: bool = False
    precision: Literal["float32", "float16", "int8"] = "float32"
    calibration_images: int = Field(default=0, ge=0)
    calibration_method: Literal["minmax", "entropy", "percentile"] = "minmax"


class Record(Settings, strict=False):
    """What is known of a network.

    ``edition`` of the data; its account: ``image_passes`` (training images seen), ``pflop`` (spent on training, from
    random weights on), and ``pflop_after_root`` (the part of it that was spent after the training of the root);
    ``steps``: a line for each technique on its path; ``notes``: what a reader of the table should know; how to
    ``export`` it; ``val_accuracy``: on validation, computed in float32 on the network as stored; None for the root.
    """

    edition: str
    image_passes: int = Field(default=0, ge=0)
    pflop: float = Field(default=0.0, ge=0)
    pflop_after_root: float = Field(default=0.0, ge=0)
    recipe: str = ""
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    export: Export = Export()
    val_accuracy: float | None = None


def network_path(name: str) -> Path:
    """Return where the network of the recipe ``name``, or of the root, lies."""
    return NETWORKS / f"{name}.safetensors"


def load_recorded(path: Path, device: torch.device | str = "cpu") -> tuple[VGG, Record]:
    """Return the network in ``path`` on ``device``, in evaluation mode, and its record.

    Raises `UserError` if the file is missing or damaged.
    """
    network, values = load_with_record(path, device)
    try:
        return network, Record.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: its record is damaged: {one_line(error)}") from None


def save_recorded(network: VGG, record: Record, path: Path, half: bool = False) -> None:
    """Write ``network`` and ``record`` to ``path``: float32, or matrices and filter banks in float16 with ``half``."""
    rounded = record.model_copy(update={key: round(getattr(record, key), 9) for key in ("pflop", "pflop_after_root")})
    save(network, path, rounded.model_dump(), half)
