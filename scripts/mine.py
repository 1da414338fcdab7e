"""Train a VGG on your own pictures and compress it: python -m scripts.mine PATH [-S KEY=VALUE ...].

PATH is what download.path may be; params.yaml says what that is. Everything runs as the DVC experiment `mine`, and your
working tree stays as it is. Small batches and many epochs make up for few images.
"""

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from scripts.check_tree import check, lines_of, overridden
from scripts.revision import Revision, open_revision
from scripts.table import read, table
from scripts.try_recipe import run_dvc
from src.compression.tree import budget_of, read_tree
from src.core.device import pick_device, uses_bfloat16
from src.core.errors import exit_cleanly
from src.core.params import Shared, read_yaml, validate
from src.data.look import opened
from src.network.vgg import VGG, ModelSettings, vgg_plan
from src.results.table import data_set
from src.training.budget import StepCost
from src.training.estimate import in_words, matrix_rate
from src.training.recipe import chosen_recipe

NAME = "mine"
OVERRIDES = Path("mine.overrides")
OUT = Path("mine/flagship.onnx")
STEPS = 1000  # of the optimizer, about as many as the recipe fast makes on CIFAR-10
BATCHES = 20  # per epoch, at least, unless they would be smaller than LEAST_BATCH
LEAST_BATCH, LARGEST_BATCH = 10, 300
LEAST_EPOCHS, MOST_EPOCHS = 3, 100
BUDGET = 2 / 7  # of the epochs of the training: what `make quick` has
HEAD = 450  # head_c times images: with the 45,000 of CIFAR-10 it is 0.01, as in params.yaml


def main() -> None:
    """Say how long it will take, run the pipeline, print the table, and say where the ONNX file lies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="a folder with a folder of pictures for each class, or another form")
    parser.add_argument("-S", "--set", action="append", default=[], help="as of `dvc exp run`; may be repeated")
    given = parser.parse_args()
    with overridden([*lines_of(OVERRIDES), *given.set], "-S") as params:
        images, classes = counted(given.path, read_yaml(params)["split"])
    own = [located(given.path), *fitted(images), *given.set]
    lines = [*lines_of(OVERRIDES), *own]
    with overridden(lines, "-S") as params:
        check(params)
        print(f"{given.path}: about {images:,} images for training", *own, sep="\n  ")
        time = in_words(seconds(params, images, classes))
        print(f"Training takes {time} or more, the other stages some minutes. Ctrl-C is safe.", flush=True)
    run(lines)
    show(open_revision(NAME))


def counted(path: Path, split: Mapping[str, float]) -> tuple[int, int]:
    """Return about how many images of ``path`` are for training, and how many classes it has.

    ``split`` is that section of params.yaml. Where classes have no names, ten are assumed: the cost of a training
    hardly depends on it.
    """
    with opened(path) as dataset:
        images, classes = len(dataset.parts["train"]), len(dataset.classes or range(10))
        held_out = [split[f"{name}_fraction"] for name in ("test", "validation") if name not in dataset.parts]
    return round(images * math.prod(1 - share for share in held_out)), classes


def located(path: Path) -> str:
    """Return the override that names ``path``, quoted: it may have blanks, umlauts, brackets or commas."""
    return f"download.path={QuotedString(text=str(path.resolve()), quote=Quote.single).with_quotes()}"


def fitted(images: int) -> list[str]:
    """Return overrides for ``images`` images: batches and epochs for about `STEPS` steps, and `HEAD`."""
    batch = min(LARGEST_BATCH, max(LEAST_BATCH, images // BATCHES))
    epochs = min(MOST_EPOCHS, max(LEAST_EPOCHS, round(STEPS * batch / max(images, 1))))
    return [
        f"train.recipes.fast.epochs={epochs}",
        f"train.defaults.batch_size={batch}",
        *(f"compress.train.{name}.batch_size={min(batch, 250)}" for name in ("repair", "refine")),
        f"compress.budget={max(1, round(BUDGET * epochs))}",
        f"compress.steps.truncate.head_c={HEAD / max(images, 1):.4g}",
    ]


def seconds(params: Path, images: int, classes: int) -> float:
    """Return how long the trainings by the file ``params`` will take, at the rate of a matrix product."""
    values, recipes = read_yaml(params), read_tree(params)
    recipe = chosen_recipe(values["train"]["recipe"], values["train"]["defaults"], values["train"]["recipes"])
    network = VGG(vgg_plan(validate(ModelSettings, values["model"], "model"), classes, values["download"]["side"]))
    cost = StepCost(network, recipe, images)
    epochs = sum(budget_of(each, recipes) for each in recipes.values())
    device = pick_device(validate(Shared, {key: values.get(key) for key in Shared.model_fields}).device)
    rate = matrix_rate(device, uses_bfloat16(device, recipe.mixed_precision))
    return (cost.whole(recipe) + epochs * cost.full_epoch) / rate


def run(lines: list[str]) -> None:
    """Run the pipeline with the overrides ``lines`` as the experiment `NAME`; `UserError` if it fails."""
    remove = [sys.executable, "-m", "dvc", "exp", "remove", "--quiet", NAME]
    subprocess.run(remove, stderr=subprocess.DEVNULL, check=False)
    os.environ["SCRATCH_FOLDER"] = str(Path("scratch").absolute())  # checkpoints outlast the temporary folder
    options = [part for line in lines for part in ("-S", line)]
    run_dvc("exp", "run", "--temp", "--name", NAME, *options)


def show(made: Revision) -> None:
    """Copy the flagship of the experiment ``made`` to `OUT`, and print the table and what to do next."""
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(made.content("released/flagship.onnx"))
    rows = read(made)
    print("", table(rows, data_set(made.dataset(), rows)), "", sep="\n")
    print(f"{OUT} is the flagship, a file that needs no code of this project (docs/use-it.md). Next:")
    print(f"  make predict IMAGE=picture.jpg MODEL={OUT}", f"  make report REV={NAME}", sep="\n")


if __name__ == "__main__":
    exit_cleanly(main)
