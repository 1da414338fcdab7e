"""What the stages export and test wrote of a recipe."""

from typing import Any

from src.core.files import read_json
from src.export.runtime import FILES, TESTED

EXPORTED = ("edition", "val_accuracy", "bytes", "packed_bytes", "macs", "pflop_after_root", "weights", "codebook")
CLASSIFIED = ("test_accuracy", "predicted")


def measured(recipe: str) -> dict[str, Any]:
    """Return what is known of the ONNX file of ``recipe``; `UserError` if a file is missing or damaged."""
    exported = read_json(FILES / f"{recipe}.json", *EXPORTED)
    return exported | read_json(TESTED / f"{recipe}.json", *CLASSIFIED)
