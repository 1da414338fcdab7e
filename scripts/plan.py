"""Print what `dvc repro` would run, and how many minutes each stage took last time: python -m scripts.plan.

These are the stages that changed, and all that depend on them; DVC will skip one of those if the files that it reads
come out with the same bytes. The minutes are those of docs/minutes.csv. The last line adds up what the training of all
recipes costs, by metrics/comparison.csv. Nothing runs.
"""

import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from checks.minutes import MINUTES, known
from src.compression.tree import ROOT, Recipe, read_tree
from src.core.errors import UserError, exit_cleanly, one_line
from src.core.files import read_csv
from src.core.recipes import DENSE
from src.results.comparison import COMPARISON
from src.results.history import FROM_NEW_WEIGHTS

OPTIONS = ("--dry", "--allow-missing", "--no-run-cache", "--ignore-errors")
UNCHANGED = re.compile(r"^Stage '(.+)' didn't change", re.MULTILINE)


def main() -> None:
    """Print a line for each stage, and the sum."""
    # Errors are ignored, and what DVC calls unchanged is left out: it fails at a changed stage whose input is not there
    command = [sys.executable, "-m", "dvc", "repro", *OPTIONS]
    dry = subprocess.run(command, check=False, capture_output=True, encoding="utf-8")
    if dry.returncode:
        raise UserError(f"`dvc repro --dry` failed: {one_line(dry.stderr)}")
    print(plan(to_run(UNCHANGED.findall(dry.stdout)), known()))
    print(cost(read_tree(), read_csv(COMPARISON, "recipe", "pflop")))


def to_run(unchanged: Collection[str]) -> list[str]:
    """Return all stages of the pipeline in this folder but the ``unchanged`` that depend on unchanged ones alone.

    They are in the order in which they run.
    """
    import networkx as nx
    from dvc.repo import Repo

    with Repo() as repo:
        graph = repo.index.graph  # from a stage to those that it needs
    changed = [stage for stage in graph if stage.addressing not in unchanged]
    found = {other for stage in changed for other in (stage, *nx.ancestors(graph, stage))}
    return [stage.addressing for stage in nx.dfs_postorder_nodes(graph) if stage in found]


def plan(stages: list[str], rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a line for each of ``stages`` with its minutes from ``rows``, and a last line with their sum."""
    if not stages:
        return "Nothing would run: the results are those of the code, the data and params.yaml."
    known_rows = [rows[stage] for stage in stages if stage in rows]
    minutes = {stage: f"{rows[stage]['minutes']:.1f}" if stage in rows else "?" for stage in stages}
    lines = [f"{stage:<32}{spent:>8}" for stage, spent in minutes.items()]
    machines = "; ".join(dict.fromkeys(row["machine"] for row in known_rows))
    total = sum(row["minutes"] for row in known_rows)
    lines.append(f"{len(stages)} stages, {total:.0f} minutes for {len(known_rows)} of them on {machines} ({MINUTES})")
    return "\n".join(lines)


def cost(recipes: Mapping[str, Recipe], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a line with the PFLOP that the training of ``recipes`` took, and those without a row in ``rows``."""
    total, known_names = pflop(recipes, rows), {row["recipe"] for row in rows}
    missing = ", ".join(name for name in recipes if name not in known_names)
    unknown = f"; not in it yet: {missing}" if missing else ""
    return f"The training of all recipes, from the trained network on, costs {total:.2f} PFLOP ({COMPARISON}{unknown})"


def pflop(recipes: Mapping[str, Recipe], rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the PFLOP of all trainings of ``recipes`` that ``rows`` know, without that of the trained network."""
    spent = {row["recipe"]: row["pflop"] for row in rows}
    spent[ROOT] = spent[DENSE]
    total = 0.0
    for name, recipe in recipes.items():
        before = 0 if recipe.step in FROM_NEW_WEIGHTS else spent.get(recipe.parent)
        if name in spent and before is not None:
            total += spent[name] - before
    return total


if __name__ == "__main__":
    exit_cleanly(main)
