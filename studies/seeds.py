"""How much does chance decide? python -m studies.seeds (or: make study NAME=seeds); about an hour and a half a seed.

Makes the flagship's branch, its controls and `tuned` again with other seeds, by the stages themselves in a folder of
their own: other orders and augmentations of the images, and other new weights. The trained network, the cut network and
the validation images stay. Writes studies/results/seeds.csv, in which the committed run has the seed of params.yaml.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from src.compression.record import NETWORKS, network_path
from src.core.arrays import PREPARED, load_arrays
from src.core.errors import UserError, exit_cleanly
from src.core.files import read_json, write_csv
from src.core.params import PARAMS, PIPELINE, read_yaml
from src.core.recipes import TUNED
from src.report.comparison import classified_right
from src.report.intervals import paired_difference
from src.training.checkpoints import SCRATCH
from stages.compare import PREDICTIONS, TESTED
from stages.compress import POSITIONS
from stages.export import FILES
from studies.items import Row, fingerprint

RESULTS = Path("studies/results/seeds.csv")
GIVEN = ("vgg16", "truncated")  # networks of the pipeline from which the study starts
RECIPES = (TUNED, "slim", "distilled", "flagship", "scratch", "small")  # parents first
CODE = (Path("src"), Path("stages"), PIPELINE, POSITIONS)
SEED = re.compile(r"^seed: \d+$", re.MULTILINE)
OUTPUTS = {"compress": NETWORKS / "{}.safetensors", "export": FILES / "{}.onnx", "test": TESTED / "{}.json"}


def main() -> None:
    """Run the stages that are missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="by default 1")
    seeds = parser.parse_args().seeds
    files = [*map(network_path, GIVEN), *sorted(PREPARED.glob("*.npz")), PARAMS, POSITIONS, Path(__file__)]
    folder = SCRATCH.absolute() / "studies/seeds" / fingerprint(files)
    _, labels = load_arrays("test")
    rows = rows_of(read_yaml(PARAMS)["seed"], _committed(), labels)
    for seed in seeds:
        rows += rows_of(seed, repeated(folder / f"seed-{seed}", seed), labels)
    write_csv(RESULTS, rows)


def repeated(folder: Path, seed: int) -> dict[str, str]:
    """Run the stages of `RECIPES` with ``seed`` in ``folder``, those that are not finished there, and return the
    predicted class of each test image as a digit, by recipe.
    """
    prepare(folder, seed)
    todo = [(recipe, stage) for recipe in RECIPES for stage in OUTPUTS]
    for recipe, stage in tqdm(todo, desc=f"seed {seed}", unit="stage", disable=None):
        if not (folder / str(OUTPUTS[stage]).format(recipe)).exists():
            run(folder, stage, recipe)
    return {recipe: read_json(folder / TESTED / f"{recipe}.json", "predicted")["predicted"] for recipe in RECIPES}


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
    (folder / PARAMS).write_text(SEED.sub(f"seed: {seed}", PARAMS.read_text()))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def run(folder: Path, stage: str, recipe: str) -> None:
    """Run ``stage`` of ``recipe`` in ``folder``; `UserError` if it fails. A training goes on from its checkpoint."""
    environment = {**os.environ, "SCRATCH_FOLDER": str(folder / "scratch")}
    done = subprocess.run([sys.executable, "-m", f"stages.{stage}", recipe], cwd=folder, env=environment, check=False)
    if done.returncode:
        raise UserError(f"{folder}: stage {stage} of {recipe} ended with {done.returncode}; its messages are above")


def _committed() -> dict[str, str]:
    """Return the predicted class of each test image in the committed run, by recipe of `RECIPES`."""
    predicted = read_json(PREDICTIONS, "recipes")["recipes"]
    if missing := [recipe for recipe in RECIPES if recipe not in predicted]:
        raise UserError(f"{PREDICTIONS}: holds no {', '.join(missing)}; run `dvc repro compare`")
    return predicted


def rows_of(seed: int, predicted: Mapping[str, str], labels: np.ndarray, recipes: Sequence[str] = RECIPES) -> list[Row]:
    """Return a row for each of ``recipes``: test accuracy, and the difference from tuned of the same ``seed``.

    ``predicted`` has a digit for each test image, ``labels`` int [images] are the true classes. The interval is that of
    `paired_difference`.
    """
    right = {name: classified_right(predicted[name], labels) for name in (TUNED, *recipes)}
    differences = {name: paired_difference(right[name], right[TUNED]) for name in recipes}
    return [
        {
            "recipe": name,
            "seed": seed,
            "test_accuracy": float(right[name].mean()),
            "difference_points": differences[name].points,
            "difference_low": differences[name].low,
            "difference_high": differences[name].high,
        }
        for name in recipes
    ]


if __name__ == "__main__":
    exit_cleanly(main)
