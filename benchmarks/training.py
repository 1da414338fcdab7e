"""How fast a training step is on this machine, and how far from what the machine can do.

    python -m benchmarks.training

Writes the section of this processor in benchmarks/README.md; sections of other processors stay. Measures three
networks: that of params.yaml, and the shapes of distilled (the flagship before int8) and low_rank, if they are there
(`dvc repro compress@NAME`). Each figure is the median of five steps that alternate with products of matrices in the
same process: other programs on a shared machine then slow both.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from benchmarks.measure import matrix_products, matrix_rates, noise, peak_memory, read_plan, write_section
from src.core.device import multiplies_bfloat16_fast, pick_device, seed_everything
from src.core.errors import exit_cleanly
from src.core.params import PARAMS, read_yaml
from src.core.recipes import DENSE
from src.network.cost import macs
from src.network.record import network_path
from src.network.vgg import VGG, Plan, load
from src.training.batches import Batches
from src.training.budget import StepCost
from src.training.loop import Hooks, Reporter, fit
from src.training.optimizers import Optimizers
from src.training.recipe import TrainRecipe, chosen_recipe

README = Path("benchmarks/README.md")
RECIPES = ("distilled", "low_rank")  # whose shapes are measured beside dense
PAIRS, WARM_UP = 5, 2
Step = dict[str, Any]
PARTS = {  # of a step; what is left is the network's forward and backward pass
    "augmentation": (Batches, "batch"),
    "optimizer": (Optimizers, "step"),
    "average": (AveragedModel, "update_parameters"),
}
INTRODUCTION = """# How fast training is

Written by `python -m benchmarks.training`, one section per processor; [separation.md](separation.md) is written by
`python -m benchmarks.separation`. Medians of five steps with images of 32 pixels, each beside matrix products in the
same process. Share: FLOP per second of a whole step (network, optimizer and moving average, as budgets count them) as a
share of the rate of the products in the same precision. The three columns behind it are parts of the time of a step;
the rest is the network's forward and backward pass. Memory is that of the process, or of the tensors on a GPU."""
COLUMNS = "network | MMAC | precision | steps/s | images/s | GFLOP/s | share | augmentation | optimizer | average | GiB"


def main() -> None:
    """Measure, and write the section of this processor."""
    section, device = read_yaml(PARAMS)["train"], pick_device("auto")
    recipe = chosen_recipe(section["recipe"], section["defaults"], section["recipes"])
    seed_everything(0)
    precisions = [False, True] if multiplies_bfloat16_fast(device) else [False]
    steps = [
        training_step(name, plan, recipe, mixed_precision, device)
        for name, plan in shapes(read_plan()).items()
        for mixed_precision in precisions
    ]
    write_section(README, INTRODUCTION, device, lines(section["recipe"], steps))


def shapes(dense: Plan) -> dict[str, Plan]:
    """Return the shapes to measure by name: ``dense``, and those of `RECIPES` whose networks are there."""
    plans = {DENSE: dense}
    for name in RECIPES:
        if network_path(name).exists():
            plans[name] = load(network_path(name)).plan
        else:
            print(f"{network_path(name)}: missing, left out; `dvc repro compress@{name}` makes it", flush=True)
    return plans


def training_step(name: str, plan: Plan, recipe: TrainRecipe, mixed_precision: bool, device: torch.device) -> Step:
    """Return the pace of steps of ``recipe`` on a network of ``plan``, beside matrix products of the same precision."""
    changes = {"epochs": 1, "phases": [], "warmup": 0.0, "mixed_precision": mixed_precision}
    recipe = TrainRecipe(**{**dict(recipe), **changes})
    images = noise((WARM_UP + PAIRS) * recipe.batch_size, plan)
    model = VGG(plan).to(device)
    timed = Alternating(matrix_products(device, torch.bfloat16 if mixed_precision else torch.float32), device)
    with measured_parts(device) as parts:
        memory = peak_memory(partial(fit, model, images, noise(10, plan), recipe, 0, Hooks(timed)), device)
    seconds, matrix_seconds = np.array(timed.pairs[WARM_UP:]).T
    flops, rates = StepCost(model, recipe, len(images)).flops(plan.side), matrix_rates(matrix_seconds)
    return {
        "network": name,
        "macs": macs(model),
        "precision": "bfloat16" if mixed_precision else "float32",
        "steps": 1 / np.median(seconds),
        "images": recipe.batch_size / np.median(seconds),
        "rate": np.median(flops / seconds),
        "matrix_rate": np.median(rates),
        "share": np.median(flops / seconds / rates),
        "memory": memory,
        **{part: np.median(parts[part][WARM_UP:] / seconds) if parts[part] else 0.0 for part in PARTS},
    }


class Alternating(Reporter):
    """A `Reporter` that measures, in seconds, each training step and, after it, ``other``: ``pairs``."""

    def __init__(self, other: Callable[[], None], device: torch.device) -> None:
        self.other, self.device = other, device
        self.pairs: list[tuple[float, float]] = []
        self.mark = now(device)

    def step(self, epoch: int, done: int, total: int) -> None:
        """Note how long the step took, and measure ``other``."""
        between = now(self.device)
        self.other()
        end = now(self.device)
        self.pairs.append((between - self.mark, end - between))
        self.mark = end


def now(device: torch.device) -> float:
    """Return the time in seconds, after all work on ``device`` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextlib.contextmanager
def measured_parts(device: torch.device) -> Iterator[dict[str, list[float]]]:
    """Give the seconds of every call of each of `PARTS` that is made within this context, by the part's name."""
    times: dict[str, list[float]] = {name: [] for name in PARTS}

    def measured(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = now(device)
            result = function(*arguments)
            times[name].append(now(device) - start)
            return result

        return call

    with contextlib.ExitStack() as stack:
        for name, (owner, method) in PARTS.items():
            stack.enter_context(patch.object(owner, method, measured(name, getattr(owner, method))))
        yield times


def lines(recipe: str, steps: list[Step]) -> list[str]:
    """Return the measurements as lines of Markdown."""
    rates = {step["precision"]: step["matrix_rate"] / 1e9 for step in steps}
    floor = ", ".join(f"{rate:.0f} GFLOP/s in {precision}" for precision, rate in rates.items())
    rows = [
        f"| {step['network']} | {step['macs'] / 1e6:.0f} | {step['precision']} | {step['steps']:.3g} "
        f"| {step['images']:.0f} | {step['rate'] / 1e9:.0f} | {step['share']:.0%} | {step['augmentation']:.1%} "
        f"| {step['optimizer']:.1%} | {step['average']:.1%} | {step['memory'] / 2**30:.2f} |"
        for step in steps
    ]
    head = [f"Steps of the recipe `{recipe}`. Matrix products: {floor}.", "", f"| {COLUMNS} |"]
    return [*head, "|---|---:|---|" + "---:|" * 8, *rows]


if __name__ == "__main__":
    exit_cleanly(main)
