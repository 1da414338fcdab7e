"""Make one recipe from the released network, and time it beside dense: python -m scripts.try_recipe NAME.

Runs the stages from download to test for this recipe, its ancestors and dense, as `dvc repro` would. What they write
stays in the working tree, so that a later `make repro` does not compute it again.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time

from checks.minutes import known, summed
from scripts.pull import pull
from scripts.table import table
from src.compression.tree import Recipe, path_to, read_tree
from src.core.errors import UserError, exit_cleanly
from src.core.files import read_csv
from src.core.params import PARAMS, read_yaml, validate
from src.core.recipes import DENSE, ROOT, TUNED
from src.core.signals import interruption
from src.data.prepared import load_arrays, load_info
from src.export.latency import THREADS, BenchmarkSettings, timings
from src.export.measured import measured
from src.export.runtime import FILES, session
from src.network.record import network_path
from src.results.comparison import TRIALS, CompareSettings, comparison_rows
from src.results.table import data_set

POLL = 0.1  # seconds


def main() -> None:
    """Say how long it took last time, run the stages, and print the rows of dense and of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a name under compress.recipes in params.yaml")
    recipes = read_tree()
    name = parser.parse_args().recipe
    if name not in recipes:
        raise UserError(f"unknown recipe {name!r}; there are: {', '.join(recipes)}")
    pull()
    if not network_path(ROOT).exists():
        raise UserError(f"{network_path(ROOT)}: cannot be pulled; make it with `dvc repro train`")
    path, compared = path_to(recipes[name], recipes), [*dict.fromkeys([DENSE, name])]
    print(expected([step.name for step in path], compared), flush=True)
    run_dvc("repro", *(f"test@{each}" for each in compared))
    rows = timed(compared, recipes)
    print(table(rows, data_set(load_info(), rows)))
    if name != TUNED and any(step.training for step in path):
        print(f"{name} was trained for longer than {DENSE}: the whole table compares it with {TUNED}.")


def run_dvc(*arguments: str) -> None:
    """Run DVC with ``arguments``; `UserError` if it fails, KeyboardInterrupt after it has ended because of a signal."""
    with interruption() as interrupted:
        process = subprocess.Popen([sys.executable, "-m", "dvc", *arguments], process_group=0)
        while process.poll() is None and not interrupted():
            time.sleep(POLL)
        if interrupted():
            with contextlib.suppress(ProcessLookupError):  # it ended at the same time
                os.killpg(process.pid, signal.SIGINT)  # DVC and its stage, which writes a checkpoint
        code = process.wait()
    if interrupted():
        raise KeyboardInterrupt
    if code:
        raise UserError(f"`dvc {arguments[0]}` failed; its messages are above")


def expected(made: list[str], compared: list[str]) -> str:
    """Return a line with the minutes that it takes to make the recipes ``made``, and to test those ``compared``."""
    stages = ["download", "split", f"compress@{DENSE}", *(f"compress@{name}" for name in made)]
    stages += [f"{stage}@{name}" for name in compared for stage in ("export", "test")]
    return f"What it takes: {summed([*dict.fromkeys(stages)], known())}"


def timed(names: list[str], recipes: dict[str, Recipe]) -> list[dict[str, object]]:
    """Return the rows of the comparison for the recipes ``names``, with latencies measured now, all in turn."""
    sessions = {name: session(FILES / f"{name}.onnx", THREADS) for name in names}
    tested = {name: measured(name) for name in names}
    params = read_yaml(PARAMS)
    settings = validate(BenchmarkSettings, params["benchmark"], "benchmark")
    margin = validate(CompareSettings, params["compare"], "compare").margin
    parents = {name: recipe.parent for name, recipe in recipes.items()}
    _, labels = load_arrays("test")
    return comparison_rows(
        tested, timings(sessions, settings), parents, labels, [row["recipe"] for row in read_csv(TRIALS)], margin
    )


if __name__ == "__main__":
    exit_cleanly(main)
