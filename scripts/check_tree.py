"""Check the recipes and the list of those to release in params.yaml: python -m scripts.check_tree [OVERRIDES].

OVERRIDES is a file with one override a line, as `dvc exp run -S` takes them.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from src.compression.tree import read_tree
from src.core.errors import ParamsError, UserError, exit_cleanly
from src.core.params import PARAMS, read_yaml


def main() -> None:
    """End with 2 and one line if there is a mistake in the tree, else with 0 and nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", type=Path, nargs="?")
    overrides = parser.parse_args().overrides
    if overrides is None:
        check(PARAMS)
        return
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / PARAMS.name
        shutil.copy(PARAMS, changed)
        override(changed, overrides)
        check(changed)


def check(params: Path) -> None:
    """Raise `ParamsError` in one line for the first mistake in the recipes, or in the list ``release``."""
    recipes, released = read_tree(params), read_yaml(params).get("release")
    known = f"must be a list of recipes out of: {', '.join(recipes)}"
    if not isinstance(released, list) or [name for name in released if name not in list(recipes)]:
        raise ParamsError(f"{PARAMS}: release: {known} (found {released!r})")


def override(params: Path, overrides: Path) -> None:
    """Change the file ``params`` as `dvc exp run -S` does for each line of ``overrides`` but comments."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    lines = [line for line in overrides.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    try:
        apply_overrides(params, lines)
    except DvcException as error:
        raise UserError(f"{overrides}: {error}") from None


if __name__ == "__main__":
    exit_cleanly(main)
