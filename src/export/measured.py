"""What the stages export, test and coded wrote of a recipe."""

import math
from pathlib import Path
from typing import Any

from src.core.files import read_json
from src.export.runtime import FILES, TESTED

CODED = Path("models/coded")  # what the stage coded writes
EXPORTED = ("edition", "val_accuracy", "bytes", "packed_bytes", "macs", "pflop_after_root", "weights", "codebook")
CLASSIFIED = ("test_accuracy", "predicted")
SIZES = ("coded_bytes", "xz_bytes")


def measured(recipe: str, coded: bool = False) -> dict[str, Any]:
    """Return what is known of the ONNX file of ``recipe``, with `SIZES` if it is ``coded`` (NaN if it is not).

    Raises `UserError` if a file is missing or damaged.
    """
    exported = read_json(FILES / f"{recipe}.json", *EXPORTED)
    sizes = read_json(CODED / f"{recipe}.json", *SIZES) if coded else dict.fromkeys(SIZES, math.nan)
    return exported | sizes | read_json(TESTED / f"{recipe}.json", *CLASSIFIED)
