"""Writing results: whole or not at all, the same bytes for the same values."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from src.core.errors import UserError

DECIMALS = 6


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, for a file or a folder; it takes ``path``'s place when all went well.

    `UserError` if the disk is full or the place cannot be written; then nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write ``values`` as JSON, floats rounded to six decimals."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(_rounded(values), indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote; `UserError` if the file is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable: {error}") from None


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write ``rows`` as CSV with a header, floats rounded to six decimals."""
    with atomic(path) as temporary:
        pd.DataFrame([_rounded(row) for row in rows]).to_csv(temporary, index=False, lineterminator="\n")


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Read what `write_csv` wrote; `UserError` if the file is missing or damaged."""
    try:
        return pd.read_csv(path).to_dict("records")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable: {error}") from None


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
