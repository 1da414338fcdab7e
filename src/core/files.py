"""Write files whole or not at all, and read and write JSON and CSV.

pandas is imported where a table is read or written, because most stages start without one.
"""

import contextlib
import csv
import io
import json
import secrets
import shutil
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.core.errors import NO_SPACE, UserError, one_line

DECIMALS = 6
NAMES = ("class", "actual", "predicted", "recipe", "reference", "parent")  # columns of text; "007" is a name too


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` for a new file or folder, and move it to ``path`` at the end.

    If the block raises an error, the temporary file or folder is removed and ``path`` stays as it was. Raises
    `UserError` if the disk is full or the place cannot be written. Errors with other files stay as they are.
    """
    # Random, because process numbers repeat in containers, and a killed process may have left its file
    temporary = path.with_name(f".{path.name}.{secrets.randbelow(10**9)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        if not _is_about(error, path, temporary):
            raise
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        with contextlib.suppress(OSError):
            temporary.unlink()


def _is_about(error: OSError, path: Path, temporary: Path) -> bool:
    """Return whether ``error`` came from writing ``temporary`` or putting it in the place of ``path``."""
    if error.filename is None:  # as where a write finds no space
        return error.errno in NO_SPACE
    place = Path(str(error.filename)).absolute()
    own = (path.absolute(), temporary.absolute())
    return place in own[0].parents or any(place.is_relative_to(root) for root in own)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write ``values`` to ``path`` as JSON, with floats rounded to six decimals."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(_rounded(values), indent=2) + "\n", encoding="utf-8")


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Return the mapping in the JSON file ``path``; `UserError` if it is missing, damaged, or lacks one of ``keys``."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"expected a mapping of keys to values, found {type(values).__name__}")
        _require(keys, values)
        return values
    except Exception as error:  # a damaged file can raise almost anything
        raise UserError(f"{path}: not readable: {one_line(error)}") from None


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...] | None = None) -> None:
    """Write ``rows`` to ``path`` as CSV with a header, with floats rounded to six decimals.

    ``columns`` are the columns to write, in order; with them the header is written even if there are no rows. Without
    them the columns are the keys of the rows.
    """
    import pandas as pd

    table = pd.DataFrame([_rounded(row) for row in rows], columns=columns)
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_csv(path: Path, *columns: str) -> list[dict[str, Any]]:
    """Return the rows of the CSV file ``path``, each a mapping from the header's names to values.

    An empty cell is NaN; in the columns `NAMES` every other cell is text. Raises `UserError` if the file is missing or
    damaged, if a row has fewer or more cells than the header, or if the header lacks one of ``columns``.
    """
    try:
        return parse_csv(path.read_bytes(), *columns)
    except Exception as error:  # a damaged file can raise almost anything
        raise UserError(f"{path}: not readable: {one_line(error)}") from None


def parse_csv(content: bytes, *columns: str) -> list[dict[str, Any]]:
    """Return the rows of the CSV table ``content`` as `read_csv` does; an exception of any type if it is damaged."""
    import pandas as pd

    cells = [len(row) for row in csv.reader(io.StringIO(content.decode(), newline="")) if row]
    if len(set(cells)) > 1:
        raise ValueError(f"the header has {cells[0]} cells; there are rows with {min(cells)} to {max(cells)}")
    text = dict.fromkeys(NAMES, str)
    table = pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""], dtype=text)
    _require(columns, table.columns)
    return table.to_dict("records")  # type: ignore[return-value]  # pandas does not know that the header is text


def _require(names: Sequence[str], present: Container[str]) -> None:
    if missing := [name for name in names if name not in present]:
        raise ValueError(f"{', '.join(missing)} is missing; run `dvc repro`")


def _rounded(value: Any) -> Any:
    """Return ``value`` with every float in it rounded."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
