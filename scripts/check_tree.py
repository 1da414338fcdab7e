"""Check the tree of recipes in params.yaml: python -m scripts.check_tree [OVERRIDES].

OVERRIDES is a file with one override a line, as `dvc exp run -S` takes them.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from src.compression.tree import read_tree
from src.core.errors import UserError, exit_cleanly
from src.core.params import PARAMS


def main() -> None:
    """End with 2 and one line if there is a mistake in the tree, else with 0 and nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", type=Path, nargs="?")
    overrides = parser.parse_args().overrides
    if overrides is None:
        read_tree()
        return
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / PARAMS.name
        shutil.copy(PARAMS, changed)
        override(changed, overrides)
        read_tree(changed)


def override(params: Path, overrides: Path) -> None:
    """Change the file ``params`` as `dvc exp run -S` does for each line of ``overrides`` but comments."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    lines = [line for line in overrides.read_text().splitlines() if line and not line.startswith("#")]
    try:
        apply_overrides(params, lines)
    except DvcException as error:
        raise UserError(f"{overrides}: {error}") from None


if __name__ == "__main__":
    exit_cleanly(main)
