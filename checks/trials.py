"""Append a run to docs/trials.csv: python -m checks.trials NAME [--recipe RECIPE] [--folder WORKING_COPY].

A trial is one stage alone, run with a changed params.yaml in a working copy of its own: ``python -m stages.train``, or
``python -m stages.compress RECIPE``. The column settings is the difference between its params.yaml and the last commit
of that copy, as options of ``dvc exp run``. For a recipe, pflop is what its own training cost, and accuracy is that
of the stored network.
"""

import argparse
import subprocess
from pathlib import Path
from typing import Any

from src.compression.tree import CompressSettings, recipe_of
from src.core.errors import UserError, exit_cleanly, one_line
from src.core.files import read_csv, write_csv
from src.core.params import PARAMS, parse_yaml, read_yaml, validate
from src.core.recipes import ROOT
from src.network.record import load_recorded, network_path
from src.results.comparison import TRIALS
from src.results.curves import FOLDER, read_curves
from src.results.history import own_pflop
from src.training.recipe import chosen_recipe


def main() -> None:
    """Read the run in the given working copy and write its row; a row of the same name is replaced."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="the name of the trial")
    parser.add_argument("--recipe", help="the recipe that was made (default: the trained network itself)")
    parser.add_argument("--folder", type=Path, default=Path(), help="the working copy of the run (default: this one)")
    given = parser.parse_args()
    others = read_csv(TRIALS) if TRIALS.exists() else []
    params = read_yaml(given.folder / PARAMS)
    new = {
        "name": given.name,
        "recipe": given.recipe or ROOT,
        "settings": " ".join(options(committed(given.folder), params)),
        "width": params["model"]["width"],
        **(of_recipe(given.recipe, given.folder, params) if given.recipe else of_training(given.folder, params)),
    }
    write_csv(TRIALS, [*(row for row in others if row["name"] != given.name), new])


def of_recipe(recipe: str, folder: Path, params: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of the network of ``recipe`` in ``folder``; `UserError` if it or its parent is missing."""
    section = validate(CompressSettings, params["compress"], "compress")
    if recipe not in section.recipes:
        raise UserError(f"{folder / PARAMS}: unknown recipe {recipe!r}; there are: {', '.join(section.recipes)}")
    made = recipe_of(section, params["train"]["defaults"], recipe)
    (_, record), (_, parent) = (load_recorded(folder / network_path(name)) for name in (recipe, made.parent))
    return {
        "pflop": own_pflop(made.step, record.pflop_after_root, parent.pflop_after_root),
        "val_accuracy_last": record.val_accuracy,
        "val_accuracy_best": record.val_accuracy,
    }


def of_training(folder: Path, params: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of the finished training in ``folder``; `UserError` if there is none."""
    curves, train = read_curves(folder / FOLDER), params["train"]
    validation = curves["val/accuracy"]
    planned = chosen_recipe(train["recipe"], train["defaults"], train["recipes"]).epochs
    if len(validation) < planned and train["stop_at"] is None:
        raise UserError(f"{folder / FOLDER}: has {len(validation)} of {planned} epochs; the run is not finished")
    return {
        "epochs": len(validation),
        "pflop": curves["pflop"][-1],
        "train_accuracy_last": curves["train/accuracy"][-1],
        "val_accuracy_last": validation[-1],
        "val_accuracy_best": max(validation),
        "val_accuracy_by_epoch": " ".join(f"{accuracy:.4f}" for accuracy in validation),
    }


def options(before: dict[str, Any], after: dict[str, Any], path: tuple[str, ...] = ()) -> list[str]:
    """Return ``-S key=value`` for each value of ``after`` that differs from ``before``; ``++`` marks a new key."""
    found = []
    for key, value in after.items():
        here = (*path, key)
        if isinstance(value, dict) and isinstance(before.get(key), dict):
            found += options(before[key], value, here)
        elif key not in before or before[key] != value:
            found.append(f"-S '{'' if key in before else '++'}{'.'.join(here)}={_written(value)}'")
    return found


def _written(value: Any) -> str:
    """Return ``value`` as Hydra reads it: {size:24,epochs:5}."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def committed(folder: Path) -> dict[str, Any]:
    """Return params.yaml of the last commit of the working copy ``folder``; `UserError` if there is none."""
    command = ["git", "show", f"HEAD:./{PARAMS}"]
    shown = subprocess.run(command, cwd=folder, check=False, capture_output=True, encoding="utf-8")
    if shown.returncode:
        raise UserError(f"{folder}: no {PARAMS} in the last commit ({one_line(shown.stderr)})")
    return parse_yaml(shown.stdout, f"{folder / PARAMS} in the last commit")


if __name__ == "__main__":
    exit_cleanly(main)
