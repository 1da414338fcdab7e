"""How much does chance decide? python -m studies.seeds (or: make study NAME=seeds); about an hour and a half a seed.

Makes the flagship's branch, its controls and `tuned` again with other seeds, by the stages themselves in a folder of
their own: other orders and augmentations of the images, and other new weights. The trained network (`dense`), the cut
network and the validation images stay. Writes studies/results/seeds.csv (accuracies) and seeds-pairs.csv (the
differences of any two recipes of a seed, as metrics/pairs.csv). The committed run has the seed of params.yaml.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from src.compression.record import NETWORKS, network_path
from tqdm import tqdm

from src.compression.positions import POSITIONS
from src.core.errors import UserError, exit_cleanly
from src.core.files import read_csv, read_json, write_csv
from src.core.params import PARAMS, PIPELINE, read_yaml
from src.core.recipes import DENSE, TUNED
from src.data.prepared import PREPARED, load_arrays
from src.results.comparison import COMPARISON, pair_rows
from src.training.checkpoints import SCRATCH
from stages.compare import PREDICTIONS, TESTED
from stages.export import FILES
from studies.items import Row, fingerprint

RESULTS, PAIRS = Path("studies/results/seeds.csv"), Path("studies/results/seeds-pairs.csv")
GIVEN = ("vgg16", "truncated")  # networks of the pipeline from which the study starts
RECIPES = (TUNED, "slim", "distilled", "flagship", "scratch", "small")  # parents first
CODE = (Path("src"), Path("stages"), PIPELINE, POSITIONS)
MEASURED = ("val_accuracy", "test_accuracy")
SEED = re.compile(r"^seed: \d+$", re.MULTILINE)
OUTPUTS = {"compress": NETWORKS / "{}.safetensors", "export": FILES / "{}.onnx", "test": TESTED / "{}.json"}


def main() -> None:
    """Run the stages that are missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="by default 1")
    seeds = parser.parse_args().seeds
    files = [*map(network_path, GIVEN), *sorted(PREPARED.glob("*.npz")), PARAMS, POSITIONS, Path(__file__)]
    folder = SCRATCH.absolute() / "studies/seeds" / fingerprint(files)
    committed = _committed()
    tested = {read_yaml(PARAMS)["seed"]: committed}
    for seed in seeds:
        tested[seed] = {DENSE: committed[DENSE]} | repeated(folder / f"seed-{seed}", seed)
    write_tables(tested, load_arrays("test")[1])


def write_tables(tested: Mapping[int, Mapping[str, Row]], labels: np.ndarray) -> None:
    """Write `RESULTS` and `PAIRS` of what the stage test found, by seed and recipe; ``labels`` are int [images]."""
    found = [{"seed": seed, "recipe": name} | row for seed, rows in tested.items() for name, row in rows.items()]
    write_csv(RESULTS, [{name: row[name] for name in ("seed", "recipe", *MEASURED)} for row in found])
    write_csv(PAIRS, [{"seed": seed} | pair for seed, rows in tested.items() for pair in pair_rows(rows, labels)])


def repeated(folder: Path, seed: int) -> dict[str, Row]:
    """Run the stages of `RECIPES` with ``seed`` in ``folder``, those that are not finished there, and return by recipe
    what the stage test found.
    """
    prepare(folder, seed)
    todo = [(recipe, stage) for recipe in RECIPES for stage in OUTPUTS]
    for recipe, stage in tqdm(todo, desc=f"seed {seed}", unit="stage", disable=None):
        if not (folder / str(OUTPUTS[stage]).format(recipe)).exists():
            run(folder, stage, recipe)
    return {recipe: read_json(folder / TESTED / f"{recipe}.json", *MEASURED, "predicted") for recipe in RECIPES}


def prepare(folder: Path, seed: int) -> None:
    """Copy to ``folder`` the code, the settings with ``seed``, and the networks of `GIVEN`; nothing is replaced."""
    for part in CODE:
        if part.is_dir():
            shutil.copytree(part, folder / part, dirs_exist_ok=True)
        else:
            _copy(part, folder / part)
    for name in GIVEN:
        _copy(network_path(name), folder / network_path(name))
    (folder / PREPARED.parent).mkdir(exist_ok=True)
    if not (folder / PREPARED).exists():
        (folder / PREPARED).symlink_to(PREPARED.absolute())
    (folder / PARAMS).write_text(SEED.sub(f"seed: {seed}", PARAMS.read_text(encoding="utf-8")), encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def run(folder: Path, stage: str, recipe: str) -> None:
    """Run ``stage`` of ``recipe`` in ``folder``; `UserError` if it fails. A training goes on from its checkpoint."""
    environment = {**os.environ, "SCRATCH_FOLDER": str(folder / "scratch")}
    done = subprocess.run([sys.executable, "-m", f"stages.{stage}", recipe], cwd=folder, env=environment, check=False)
    if done.returncode:
        raise UserError(f"{folder}: stage {stage} of {recipe} ended with {done.returncode}; its messages are above")


def _committed() -> dict[str, Row]:
    """Return the accuracies and the predicted classes of dense and `RECIPES` in the committed run."""
    predicted = read_json(PREDICTIONS, "recipes")["recipes"]
    rows = {row["recipe"]: row for row in read_csv(COMPARISON, "recipe", *MEASURED)}
    if missing := [name for name in (DENSE, *RECIPES) if name not in predicted or name not in rows]:
        raise UserError(f"{PREDICTIONS}, {COMPARISON}: hold no {', '.join(missing)}; run `dvc repro compare`")
    return {name: rows[name] | {"predicted": predicted[name]} for name in (DENSE, *RECIPES)}


if __name__ == "__main__":
    exit_cleanly(main)
