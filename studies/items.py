"""What all studies share: items that are computed once, each with a result file of its own.

A study that is stopped goes on where it stopped. The name of a result file is a hash of everything that the result
depends on, so that a change of the network, of the data or of the study's code computes it again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from src.core.errors import UserError
from src.core.files import read_json, write_json
from src.training.checkpoints import SCRATCH

Row = dict[str, Any]


def fingerprint(files: Sequence[Path], **settings: Any) -> str:
    """Return a hash of the bytes of ``files`` and of ``settings``; `UserError` if a file is missing."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in files:
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; this study needs it, and `dvc repro` makes it") from None
    return digest.hexdigest()[:16]


def computed(study: str, depends_on: str, items: Mapping[str, Callable[[], list[Row]]]) -> list[Row]:
    """Return the rows of all ``items`` in order; those whose result file is there are not computed again.

    ``depends_on`` is the `fingerprint` of the study. The files are scratch/studies/STUDY/FINGERPRINT/ITEM.json.
    """
    folder = SCRATCH / "studies" / study / depends_on
    rows: list[Row] = []
    for name, compute in tqdm(items.items(), desc=study, unit="item", disable=None):
        path = folder / f"{name}.json"
        if not path.exists():
            write_json(path, {"rows": compute()})
        rows += read_json(path, "rows")["rows"]
    return rows
