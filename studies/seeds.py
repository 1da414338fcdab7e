"""How much does chance decide? python -m studies.seeds (or: make study NAME=seeds); about 3 PFLOP per seed.

Makes the flagship's branch and its two controls again with other seeds, by the stages in a folder of their own: other
orders and augmentations of the images, and other random weights. The trained network (`dense`), the cut network and the
validation images stay. Other recipes below the cut network can be named: ``--recipes slim slim_int8 tuned_slim
scratch_slim`` costs a fifth. Writes studies/results/seeds.csv (accuracies), seeds-pairs.csv (the differences of any two
recipes with one seed, as metrics/pairs.csv) and seeds-pooled.csv (over all seeds). The committed run has the seed of
params.yaml.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from tqdm import tqdm

from src.compression.positions import POSITIONS
from src.core.errors import ParamsError, UserError, exit_cleanly
from src.core.files import read_csv, read_json, write_csv
from src.core.params import PARAMS, PIPELINE, read_yaml
from src.core.recipes import DENSE, ROOT
from src.data.prepared import PREPARED, load_arrays
from src.export.runtime import FILES, TESTED
from src.network.record import NETWORKS, network_path
from src.results.comparison import COMPARISON, PAIR_COLUMNS, PREDICTIONS, correct_images, pair_rows
from src.results.intervals import pooled_difference
from studies.items import Row, results_folder

RESULTS, PAIRS = Path("studies/results/seeds.csv"), Path("studies/results/seeds-pairs.csv")
POOLED = Path("studies/results/seeds-pooled.csv")
GIVEN = (ROOT, "shallow")  # networks of the pipeline from which the study starts
RECIPES = ("slim", "retrained", "flagship", "tuned", "scratch")
CODE = (Path("src"), Path("stages"))
MEASURED = ("val_accuracy", "test_accuracy")
OUTPUTS = {"compress": NETWORKS / "{}.safetensors", "export": FILES / "{}.onnx", "test": TESTED / "{}.json"}


def main() -> None:
    """Run the stages that are missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="by default 1")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help=f"parents first; by default {' '.join(RECIPES)}")
    arguments, params = parser.parse_args(), read_yaml(PARAMS)
    if "seed" not in params:
        raise ParamsError(f"{PARAMS}: seed: missing; this study changes it")
    inputs = [*map(network_path, GIVEN), PREPARED, PARAMS, PIPELINE, POSITIONS, Path("stages")]
    folder, committed = results_folder("seeds", inputs).absolute(), _committed(arguments.recipes)
    measured = {params["seed"]: committed}
    for seed in arguments.seeds:
        own = repeated(folder / f"seed-{seed}", params | {"seed": seed}, arguments.recipes)
        measured[seed] = {DENSE: committed[DENSE]} | own
    write_tables(measured, load_arrays("test")[1])


def write_tables(measured: Mapping[int, Mapping[str, Row]], labels: np.ndarray) -> None:
    """Write the tables of what was ``measured``, by seed and recipe; ``labels`` are int [images]."""
    rows = [{"seed": seed, "recipe": name} | row for seed, table in measured.items() for name, row in table.items()]
    write_csv(RESULTS, rows, ("seed", "recipe", *MEASURED))
    correct = {seed: correct_images(table, labels) for seed, table in measured.items()}
    write_csv(PAIRS, [{"seed": seed} | pair for seed, images in correct.items() for pair in pair_rows(images)])
    recipes = next(iter(measured.values()))
    over_seeds = {name: np.stack([images[name] for images in correct.values()]) for name in recipes}
    write_csv(POOLED, pair_rows(over_seeds, pooled_difference) if len(correct) > 1 else [], PAIR_COLUMNS)


def repeated(folder: Path, params: dict[str, Any], recipes: Sequence[str]) -> dict[str, Row]:
    """Run in ``folder`` the stages of ``recipes`` that are not finished there; return what they measured, by recipe.

    ``params`` are those of params.yaml with another seed.
    """
    prepare(folder, params)
    todo = [(recipe, stage) for recipe in recipes for stage in OUTPUTS]
    for recipe, stage in tqdm(todo, desc=folder.name, unit="stage", disable=None):
        if not (folder / str(OUTPUTS[stage]).format(recipe)).exists():
            run(folder, stage, recipe)
    return {
        name: read_json(folder / FILES / f"{name}.json", "val_accuracy")
        | read_json(folder / TESTED / f"{name}.json", "test_accuracy", "predicted")
        for name in recipes
    }


def prepare(folder: Path, params: dict[str, Any]) -> None:
    """Copy to ``folder`` the code and the networks of `GIVEN`, and write ``params``; the images are a link."""
    for part in CODE:
        shutil.copytree(part, folder / part, dirs_exist_ok=True)
    for path in (PIPELINE, POSITIONS, *map(network_path, GIVEN)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path)
    (folder / PREPARED.parent).mkdir(exist_ok=True)
    if not (folder / PREPARED).exists():
        (folder / PREPARED).symlink_to(PREPARED.absolute())
    YAML().dump(params, folder / PARAMS)


def run(folder: Path, stage: str, recipe: str) -> None:
    """Run ``stage`` of ``recipe`` in ``folder``; `UserError` if it fails. A training resumes from its checkpoint."""
    environment = {**os.environ, "SCRATCH_FOLDER": str(folder / "scratch")}
    done = subprocess.run([sys.executable, "-m", f"stages.{stage}", recipe], cwd=folder, env=environment, check=False)
    if done.returncode:
        raise UserError(f"{folder}: stage {stage} of {recipe} ended with {done.returncode}; its messages are above")


def _committed(recipes: Sequence[str]) -> dict[str, Row]:
    """Return what the committed run measured of dense and ``recipes``."""
    predicted = read_json(PREDICTIONS, "recipes")["recipes"]
    rows = {row["recipe"]: row for row in read_csv(COMPARISON, "recipe", *MEASURED)}
    if missing := [name for name in (DENSE, *recipes) if name not in predicted or name not in rows]:
        raise UserError(f"{PREDICTIONS}, {COMPARISON}: hold no {', '.join(missing)}; run `dvc repro compare`")
    return {name: rows[name] | {"predicted": predicted[name]} for name in (DENSE, *recipes)}


if __name__ == "__main__":
    exit_cleanly(main)
