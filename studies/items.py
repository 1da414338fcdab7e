"""What the studies share: items that are computed once, each with a result file of its own.

A study that is stopped resumes where it stopped. The folder of its results is named by a hash of everything that they
depend on, so that another network, other data or an edit of the code computes them again.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from src.core.errors import UserError, exit_cleanly
from src.core.files import read_json, write_json
from src.training.checkpoints import SCRATCH, fingerprint

STUDIES, CODE, PICTURES = Path("studies"), Path("src"), Path("src/pictures")
Row = dict[str, Any]
Items = Mapping[str, Callable[[], list[Row]]]


def run(main: Callable[[], None], description: str) -> None:
    """Run the study ``main``, which takes no arguments; ``--help`` prints ``description``."""
    argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    exit_cleanly(main)


def results_folder(study: str, inputs: Sequence[Path], *settings: object) -> Path:
    """Return the folder for the results of ``study``, which names a module in studies/ (``separation/measures``).

    It is scratch/studies/STUDY/HASH. The hash covers the module, all of src but src/pictures, which only draws what
    was computed, the files and folders ``inputs``, and ``settings``. Raises `UserError` if an input is missing.
    """
    require(inputs)
    module = (STUDIES / study).with_suffix(".py")
    code = [path for path in sorted(CODE.rglob("*.py")) if PICTURES not in path.parents]
    return SCRATCH / "studies" / study / fingerprint(map(str, settings), [module, *code, *inputs])


def require(inputs: Sequence[Path]) -> None:
    """Raise `UserError` if one of the files and folders ``inputs`` of a study is missing."""
    if missing := [path for path in inputs if not path.exists()]:
        raise UserError(f"{missing[0]}: missing; this study needs it, and `dvc repro` makes it")


def computed(folder: Path, items: Items) -> list[Row]:
    """Return the rows of all ``items`` in order; those whose file ITEM.json is in ``folder`` are not computed again."""
    rows: list[Row] = []
    for name, compute in tqdm(items.items(), desc=folder.parent.name, unit="item", disable=None):
        path = folder / f"{name}.json"
        if not path.exists():
            write_json(path, {"rows": compute()})
        rows += read_json(path, "rows")["rows"]
    return rows
