"""How fast a training step is on this machine, and how far from what the machine can do.

    python -m benchmarks.training

Writes the section of this processor in benchmarks/README.md; sections of other processors stay. Measures three
networks: that of params.yaml, and the shapes of slim (that of the flagship) and low_rank, if they are there
(`dvc repro compress@NAME`). Each figure is the median of five steps that alternate with products of matrices in the
same process: other programs on a shared machine then slow both.
"""

import argparse
import contextlib
import platform
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from src.core.device import multiplies_bfloat16_fast, pick_device, seed_everything
from src.core.errors import exit_cleanly
from src.core.files import atomic
from src.core.params import PARAMS, read_yaml, validate
from src.core.recipes import DENSE
from src.data.prepared import Split
from src.export.latency import cpu_name
from src.network.cost import macs
from src.network.record import network_path
from src.network.vgg import VGG, ModelSettings, Plan, load, vgg_plan
from src.training.batches import Batches
from src.training.budget import StepCost
from src.training.loop import Hooks, Reporter, fit
from src.training.optimizers import Optimizers
from src.training.recipe import TrainRecipe, chosen_recipe

README = Path("benchmarks/README.md")
RECIPES = ("slim", "low_rank")  # whose shapes are measured beside dense
PAIRS, WARM_UP = 5, 2
CLEAR_PEAK, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
MATRIX_SIDE, MATRIX_PRODUCTS = 2048, 10
CLASSES, SIDE = 10, 32  # of the noise, as CIFAR-10 has them; side in pixels
Step = dict[str, Any]
PARTS = {  # of a step; what is left is the network's forward and backward pass
    "augmentation": (Batches, "batch"),
    "optimizer": (Optimizers, "step"),
    "average": (AveragedModel, "update_parameters"),
}
INTRODUCTION = """# How fast training is

Written by `python -m benchmarks.training`, one section per processor. Medians of five steps with images of 32 pixels,
each beside matrix products in the same process. Share: FLOP per second of a whole step (network, optimizer and moving
average, as budgets count them) as a share of the rate of the products in the same precision. The three columns behind
it are parts of the time of a step; the rest is the network's forward and backward pass. Memory is that of the process,
or of the tensors on a GPU."""
COLUMNS = "network | MMAC | precision | steps/s | images/s | GFLOP/s | share | augmentation | optimizer | average | GiB"


def main() -> None:
    """Measure, and write the section of this processor."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    params, device = read_yaml(PARAMS), pick_device("auto")
    section = params["train"]
    recipe = chosen_recipe(section["recipe"], section["defaults"], section["recipes"])
    dense = vgg_plan(validate(ModelSettings, params.get("model"), "model"), CLASSES, SIDE)
    seed_everything(0)
    precisions = [False, True] if multiplies_bfloat16_fast(device) else [False]
    steps = [
        training_step(name, plan, recipe, mixed_precision, device)
        for name, plan in shapes(dense).items()
        for mixed_precision in precisions
    ]
    write_section(device, lines(section["recipe"], steps))


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
    recipe = TrainRecipe(**dict(recipe) | changes)
    images = noise((WARM_UP + PAIRS) * recipe.batch_size, plan)
    model = VGG(plan).to(device)
    timed = Alternating(matrix_products(device, torch.bfloat16 if mixed_precision else torch.float32), device)
    with measured_parts(device) as parts:
        memory = peak_memory(partial(fit, model, images, noise(10, plan), recipe, 0, Hooks(timed)), device)
    seconds, matrix_seconds = np.array(timed.pairs[WARM_UP:]).T
    speeds = StepCost(model, recipe, len(images)).flops(plan.side) / seconds  # FLOP per second, as the rates
    rates = 2 * MATRIX_SIDE**3 * MATRIX_PRODUCTS / matrix_seconds
    return {
        "network": name,
        "macs": macs(model),
        "precision": "bfloat16" if mixed_precision else "float32",
        "steps": 1 / np.median(seconds),
        "images": recipe.batch_size / np.median(seconds),
        "rate": np.median(speeds),
        "matrix_rate": np.median(rates),
        "share": np.median(speeds / rates),
        "memory": memory,
        **{part: np.median(parts[part][WARM_UP:] / seconds) if parts[part] else 0.0 for part in PARTS},
    }


def noise(count: int, plan: Plan) -> Split:
    """Return ``count`` images of noise for a network of ``plan``; the speed does not depend on what images show."""
    images = torch.randint(0, 256, (count, 3, plan.side, plan.side), dtype=torch.uint8)
    return Split(images, torch.arange(count) % plan.classes)


def matrix_products(device: torch.device, precision: torch.dtype) -> Callable[[], None]:
    """Return a function that multiplies two matrices of ``precision`` `MATRIX_PRODUCTS` times."""
    first, second = torch.randn(2, MATRIX_SIDE, MATRIX_SIDE, device=device).to(precision)

    def products() -> None:
        for _ in range(MATRIX_PRODUCTS):
            torch.mm(first, second)

    return products


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


def peak_memory(function: Callable[[], object], device: torch.device) -> float:
    """Return the most bytes in use while ``function`` runs: tensors on a GPU, the process on a Linux CPU, else NaN."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif CLEAR_PEAK.exists():
        CLEAR_PEAK.write_text("5", encoding="ascii")
    function()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if not STATUS.exists():
        return float("nan")
    line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def write_section(device: torch.device, lines: list[str]) -> None:
    """Print ``lines``, measured on ``device``, and write them to `README` as its section; those of others stay."""
    gpu = device.type == "cuda"
    where = torch.cuda.get_device_name() if gpu else f"{cpu_name()}, {torch.get_num_threads()} threads"
    section = "\n".join(
        [f"## {where}", "", f"PyTorch {torch.__version__}, Python {platform.python_version()}.", *lines]
    )
    print(section)
    text = with_section(README.read_text(encoding="utf-8"), section)
    with atomic(README) as temporary:
        temporary.write_text(text, encoding="utf-8")


def with_section(text: str, section: str) -> str:
    """Return `INTRODUCTION` and the sections of ``text``; ``section`` replaces one with the same heading."""
    sections = [part.rstrip() for part in re.split(r"(?m)^(?=## )", text) if part.startswith("## ")]
    heading = section.splitlines()[0]
    others = [part for part in sections if part.splitlines()[0] != heading]
    return "\n\n".join([INTRODUCTION, *others, section]) + "\n"


if __name__ == "__main__":
    exit_cleanly(main)
