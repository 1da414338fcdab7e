"""Make one recipe from the released network, and time it beside dense: python -m scripts.try_recipe NAME.

Runs the stages from download to test for this recipe, its ancestors and dense, as `dvc repro` would. What they write
stays in the working tree, so that a later `make repro` does not compute it again.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable

from scripts.minutes import MINUTES, known
from scripts.predict import present
from scripts.table import table
from src.compression.record import network_path
from src.compression.tree import ROOT, Recipe, path_to, read_tree
from src.core.arrays import load_arrays
from src.core.errors import UserError, exit_cleanly
from src.core.files import read_csv, read_json
from src.core.recipes import DENSE
from src.deployment.latency import THREADS, latencies
from src.deployment.runtime import session
from src.report.comparison import comparison_rows
from stages.compare import TESTED, TRIALS
from stages.test import FILES

BLOCKS, CALLS, BATCH_CALLS = 10, 20, 2  # as in the committed benchmark


def main() -> None:
    """Say how long it took last time, run the stages, and print the rows of dense and of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a name under compress.recipes in params.yaml")
    recipes = read_tree()
    name = parser.parse_args().recipe
    if name not in recipes:
        raise UserError(f"unknown recipe {name!r}; there are: {', '.join(recipes)}")
    present(network_path(ROOT))
    names = [*dict.fromkeys([DENSE, *(step.name for step in path_to(recipes[name], recipes))])]
    print(expected(names), flush=True)
    targets = [f"test@{each}" for each in dict.fromkeys([DENSE, name])]
    if subprocess.run([sys.executable, "-m", "dvc", "repro", *targets], check=False).returncode:
        raise UserError("`dvc repro` failed; its messages are above")
    print(table(measured([*dict.fromkeys([DENSE, name])], recipes)))


def expected(names: Iterable[str]) -> str:
    """Return a line that says how many minutes the stages of the recipes ``names`` took in the run in docs."""
    stages = [f"{stage}@{name}" for name in names for stage in ("compress", "export", "test")]
    rows = known()
    found = [rows[stage] for stage in ["download", "split", *stages] if stage in rows]
    if not found:
        return f"{MINUTES}: holds no time of these stages"
    minutes, machines = sum(row["minutes"] for row in found), dict.fromkeys(row["cpu"] for row in found)
    return f"These stages took {minutes:.0f} minutes in all on two cores of {', '.join(machines)} ({MINUTES})."


def measured(names: list[str], recipes: dict[str, Recipe]) -> list[dict[str, object]]:
    """Return the rows of the comparison for the recipes ``names``, with latencies measured now, all in turn."""
    sessions = {name: session(FILES / f"{name}.onnx", THREADS) for name in names}
    tested = {name: read_json(TESTED / f"{name}.json") for name in names}
    one, many = latencies(sessions, 1, BLOCKS, CALLS), latencies(sessions, 64, BLOCKS, BATCH_CALLS)
    timings = {name: {"edition": tested[name]["edition"], "b1": one[name], "b64": many[name]} for name in names}
    parents = {name: recipe.parent for name, recipe in recipes.items()}
    _, labels = load_arrays("test")
    return comparison_rows(tested, timings, parents, labels, [row["recipe"] for row in read_csv(TRIALS)])


if __name__ == "__main__":
    exit_cleanly(main)
