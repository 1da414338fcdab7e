"""Check the recipes of params.yaml, and its lists of those to code and to release.

`python -m scripts.check_tree [OVERRIDES]`. OVERRIDES is a file with one override a line, as `dvc exp run -S` takes
them.
"""

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from src.compression.tree import read_tree
from src.core.errors import ParamsError, UserError, exit_cleanly, one_line
from src.core.params import PARAMS, read_yaml


def main() -> None:
    """End with 2 and one line if there is a mistake in the tree, else with 0 and nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", type=Path, nargs="?")
    overrides = parser.parse_args().overrides
    if overrides is None:
        check(PARAMS)
    else:
        with overridden(lines_of(overrides), str(overrides)) as changed:
            check(changed)


def check(params: Path) -> None:
    """Raise `ParamsError` in one line for the first mistake in the recipes, or in the lists ``coded``, ``release``."""
    known, settings = list(read_tree(params)), read_yaml(params)
    for key, what, least in (("coded", "recipes (at least one)", 1), ("release", "recipes in coded", 0)):
        named = settings.get(key)
        if not isinstance(named, list) or len(named) < least or [name for name in named if name not in known]:
            allowed = f"must be a list of {what} out of: {', '.join(known)}"
            raise ParamsError(f"{PARAMS}: {key}: {allowed} (found {named!r})")
        known = named


def lines_of(overrides: Path) -> list[str]:
    """Return the lines of the file ``overrides`` without comments."""
    lines = overrides.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@contextlib.contextmanager
def overridden(lines: list[str], origin: str) -> Iterator[Path]:
    """Give a copy of params.yaml that is changed by `override`."""
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / PARAMS.name
        shutil.copy(PARAMS, changed)
        override(changed, lines, origin)
        yield changed


def override(params: Path, lines: list[str], origin: str) -> None:
    """Change the file ``params`` as `dvc exp run -S` does for each of ``lines``.

    Raises `UserError`, which begins with ``origin``, if that is impossible.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    try:
        apply_overrides(params, lines)
    except DvcException as error:
        raise UserError(f"{origin}: {one_line(error.__cause__ or error)}") from None


if __name__ == "__main__":
    exit_cleanly(main)
