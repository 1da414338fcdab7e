"""How fast training is on this machine, and how far from what the machine can do.

    python -m benchmarks.training

Writes the section of this processor in benchmarks/README.md; sections of other processors stay. Each figure is the
median of five runs that are interleaved, in one process, with what it is compared to: other programs on a shared
machine then slow both.
"""

import contextlib
import platform
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from src.training.schedule import TrainRecipe, chosen_recipe
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from benchmarks.torchvision_compat import torchvision
from src.core.device import multiplies_bfloat16_fast, pick_device, seed_everything
from src.core.errors import exit_cleanly
from src.core.files import atomic
from src.core.params import load_params
from src.data.prepared import Split
from src.export.latency import cpu_name, milliseconds
from src.network.cost import FLOPS_PER_MAC_TRAINING, macs
from src.network.inference import to_unit
from src.network.vgg import VGG, ModelSettings, vgg16_plan
from src.training.augment import Crops
from src.training.batches import Batches
from src.training.initialization import initialize
from src.training.loop import Hooks, Reporter, fit
from src.training.optimizers import Optimizers
from stages.train import Params

README = Path("benchmarks/README.md")
PAIRS, WARM_UP = 5, 2
PARTS = {  # of a step; what is left is the network's forward and backward pass
    "augmentation": (Batches, "batch"),
    "optimizer": (Optimizers, "step"),
    "average": (AveragedModel, "update_parameters"),
}
CLEAR_PEAK, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
MATRIX_SIDE, MATRIX_PRODUCTS = 2048, 10
PIPELINE_IMAGES = 10_000
ORIGINAL_WORKERS, ORIGINAL_PADDING = 4, 4  # of the original study's DataLoader and crops


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
    found: dict[str, list[float]] = {name: [] for name in PARTS}

    def measured(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = now(device)
            result = function(*arguments)
            found[name].append(now(device) - start)
            return result

        return call

    with contextlib.ExitStack() as stack:
        for name, (owner, method) in PARTS.items():
            stack.enter_context(patch.object(owner, method, measured(name, getattr(owner, method))))
        yield found


class OneByOne(Dataset):
    """The original study's way: each image a PIL picture, augmented by torchvision on its own."""

    def __init__(self, images: Tensor) -> None:
        self.images = images.permute(0, 2, 3, 1).numpy()
        each = torchvision.transforms
        crop, flip = each.RandomCrop(32, padding=ORIGINAL_PADDING), each.RandomHorizontalFlip()
        self.transform = each.Compose([crop, flip, each.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.fromarray(self.images[index]))


def main() -> None:
    """Measure, and write the section of this processor."""
    params = load_params("train", Params)
    train = params.train
    recipe = chosen_recipe(train.recipe, train.defaults, train.recipes)
    device = pick_device(params.device)
    seed_everything(params.seed)
    precisions = [False, True] if multiplies_bfloat16_fast(device) else [False]
    steps = [training_step(params.model, recipe, size, mixed, device) for size in (16, 24, 32) for mixed in precisions]
    section = page(train.recipe, device, steps, input_pipeline(recipe.batch_size, device))
    print(section)
    with atomic(README) as temporary:
        before = README.read_text(encoding="utf-8") if README.exists() else ""
        temporary.write_text(with_section(before, section), encoding="utf-8")


def with_section(text: str, section: str, introduction: str | None = None) -> str:
    """Return ``text`` with ``section`` in place of the one with the same heading, or at the end if there is none.

    The page begins with ``introduction``, by default that of this module.
    """
    sections = [part.rstrip() for part in re.split(r"(?m)^(?=## )", text) if part.startswith("## ")]
    heading = section.splitlines()[0]
    others = [part for part in sections if part.splitlines()[0] != heading]
    return "\n\n".join([introduction or INTRODUCTION, *others, section]) + "\n"


def training_step(
    settings: ModelSettings, recipe: TrainRecipe, size: int, mixed_precision: bool, device: torch.device
) -> dict[str, Any]:
    """Return the pace of steps of ``recipe`` on images of ``size`` pixels, beside matrix products of its precision."""
    changes = {"phases": [{"size": size, "epochs": 1}], "warmup_epochs": 0.0, "mixed_precision": mixed_precision}
    recipe = TrainRecipe(**recipe.model_dump() | changes)
    images = noise((WARM_UP + PAIRS) * recipe.batch_size)
    model = initialize(VGG(vgg16_plan(settings)), recipe, images.images).to(device)
    forget_peak_memory(device)
    timed = Alternating(matrix_products(device, torch.bfloat16 if mixed_precision else torch.float32), device)
    with measured_parts(device) as parts:
        fit(model, images, noise(10), recipe, 0, Hooks(timed))
    seconds, matrix_seconds = np.array(timed.pairs[WARM_UP:]).T
    flops = FLOPS_PER_MAC_TRAINING * macs(model, size) * recipe.batch_size
    matrix_rates = 2 * MATRIX_SIDE**3 * MATRIX_PRODUCTS / matrix_seconds
    return {
        "size": size,
        "precision": "bfloat16" if mixed_precision else "float32",
        "steps": 1 / np.median(seconds),
        "images": recipe.batch_size / np.median(seconds),
        "rate": np.median(flops / seconds),
        "matrix_rate": np.median(matrix_rates),
        "share": np.median(flops / seconds / matrix_rates),
        "memory": peak_memory(device),
        **{name: np.median(parts[name][WARM_UP:] / seconds) if parts[name] else 0.0 for name in PARTS},
    }


def matrix_products(device: torch.device, precision: torch.dtype) -> Callable[[], None]:
    """Return a function that multiplies two matrices of ``precision`` a few times."""
    one, other = torch.randn(2, MATRIX_SIDE, MATRIX_SIDE, device=device).to(precision)

    def products() -> None:
        for _ in range(MATRIX_PRODUCTS):
            torch.mm(one, other)

    return products


def input_pipeline(batch_size: int, device: torch.device) -> dict[str, float]:
    """Return images/s from uint8 to augmented float32 batches: ours, and the original study's way on the CPU."""
    images = noise(PIPELINE_IMAGES).images
    loader = DataLoader(OneByOne(images), batch_size, True, num_workers=ORIGINAL_WORKERS, persistent_workers=True)
    crops = Crops(images.to(device), ORIGINAL_PADDING)

    def one_by_one() -> None:
        for _ in loader:
            pass

    def at_once() -> None:
        for _ in batches(crops, batch_size):
            pass
        if device.type == "cuda":
            torch.cuda.synchronize()

    seconds = interleave(at_once, one_by_one, PAIRS, WARM_UP) / 1000
    ours, original = PIPELINE_IMAGES / np.median(seconds, axis=0)
    return {"ours": ours, "original": original, "ratio": float(np.median(seconds[:, 1] / seconds[:, 0]))}


def interleave(first: Callable[[], object], second: Callable[[], object], runs: int, warm_up: int) -> np.ndarray:
    """Return the times of calls of ``first`` and ``second`` in turn, in ms, float64 [runs, 2].

    ``warm_up`` pairs of calls come before and are not in the result. The order changes from pair to pair, so that
    the caches hold the data of the other function equally often for both.
    """
    functions = (first, second)
    times = np.empty((warm_up + runs, 2))
    for pair in range(len(times)):
        for index in (0, 1) if pair % 2 else (1, 0):
            times[pair, index] = milliseconds(functions[index])
    return times[warm_up:]


def batches(crops: Crops, batch_size: int) -> Iterator[Tensor]:
    """Yield the augmented batches of one shuffled pass, as the training loop makes them."""
    generator = torch.Generator().manual_seed(0)
    for chosen in torch.randperm(PIPELINE_IMAGES, generator=generator).split(batch_size):
        yield to_unit(crops.cut(crops.draw(chosen, torch.rand(len(chosen)) < 0.5, generator)))


def noise(count: int) -> Split:
    """Return ``count`` images of noise; the speed does not depend on what images show."""
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    return Split(images, torch.arange(count) % 10)


def forget_peak_memory(device: torch.device) -> None:
    """Start anew for `peak_memory`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif CLEAR_PEAK.exists():
        CLEAR_PEAK.write_text("5", encoding="utf-8")


def peak_memory(device: torch.device) -> float:
    """The most bytes in use since `forget_peak_memory`: tensors on a GPU, the process on a Linux CPU, else NaN."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if not STATUS.exists():
        return float("nan")
    line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


INTRODUCTION = """# How fast training is

Written by `python -m benchmarks.training`, one section for each processor. Medians of five runs, each interleaved in
one process with what it is compared to."""


def page(recipe: str, device: torch.device, steps: list[dict[str, Any]], pipeline: dict[str, float]) -> str:
    """Return the measurements as a section of Markdown."""
    where = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{cpu_name()}, {torch.get_num_threads()} threads"
    )
    rates = {step["precision"]: step["matrix_rate"] / 1e9 for step in steps}
    floor = ", ".join(f"{rate:.0f} GFLOP/s in {precision}" for precision, rate in rates.items())
    head = [
        f"## {where}",
        "",
        f"PyTorch {torch.__version__}, torchvision {torchvision.__version__}, Python {platform.python_version()}. "
        f"Products of {MATRIX_SIDE} x {MATRIX_SIDE} matrices: {floor}.",
        "",
    ]
    return "\n".join([*head, *_steps_section(recipe, steps), "", *_pipeline_section(pipeline)])


def _steps_section(recipe: str, steps: list[dict[str, Any]]) -> list[str]:
    rows = [
        f"| {step['size']} | {step['precision']} | {step['steps']:.3g} | {step['images']:.0f} "
        f"| {step['rate'] / 1e9:.0f} | {step['share']:.0%} | {step['augmentation']:.1%} | {step['optimizer']:.1%} "
        f"| {step['average']:.1%} | {step['memory'] / 2**30:.2f} |"
        for step in steps
    ]
    return [
        f"### Whole training steps of the recipe `{recipe}`",
        "",
        "GFLOP/s counts the convolutions and linear layers alone (6 for each multiply-accumulate). Share: of the rate",
        "of matrix products in the same precision. The next three columns are parts of the time of a step; the rest",
        "is the network's forward and backward pass. Memory is that of the process, or of the tensors on a GPU.",
        "",
        "| pixels | precision | steps/s | images/s | GFLOP/s | share | augmentation | optimizer | average | GiB |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        *rows,
    ]


def _pipeline_section(pipeline: dict[str, float]) -> list[str]:
    return [
        "### Input pipeline",
        "",
        "Flips and crops, from uint8 images to float32 batches: whole batches at once, and the original study's",
        "way, each image a PIL picture through torchvision's transforms in a DataLoader of "
        f"{ORIGINAL_WORKERS} workers.",
        "",
        "| way | images/s |",
        "|---|---:|",
        f"| whole batches | {pipeline['ours']:,.0f} |",
        f"| image by image | {pipeline['original']:,.0f} |",
        "",
        f"Whole batches are {pipeline['ratio']:.0f} times as fast (median over pairs).",
    ]


if __name__ == "__main__":
    exit_cleanly(main)
