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

from benchmarks.measure import matrix_products, matrix_rates, noise, peak_memory, read_model, write_section
from src.core.device import multiplies_bfloat16_fast, pick_device, seed_everything
from src.core.errors import exit_cleanly
from src.core.params import PARAMS, read_yaml
from src.core.recipes import DENSE
from src.network.cost import macs
from src.network.record import network_path
from src.network.vgg import VGG, ModelSettings, Plan, load, vgg16_plan
from src.training.batches import Batches
from src.training.budget import StepCost
from src.training.loop import Hooks, NullReporter, fit
from src.training.optimizers import Optimizers
from src.training.recipe import FULL_SIDE, TrainRecipe, chosen_recipe

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
        for name, plan in shapes(read_model()).items()
        for mixed_precision in precisions
    ]
    write_section(README, INTRODUCTION, device, lines(section["recipe"], steps))


def shapes(model: ModelSettings) -> dict[str, Plan]:
    """Return the shapes to measure by name: that of ``model``, and those of `RECIPES` whose networks are there."""
    plans = {DENSE: vgg16_plan(model)}
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
    images = noise((WARM_UP + PAIRS) * recipe.batch_size)
    model = VGG(plan).to(device)
    timed = Alternating(matrix_products(device, torch.bfloat16 if mixed_precision else torch.float32), device)
    with measured_parts(device) as parts:
        memory = peak_memory(partial(fit, model, images, noise(10), recipe, 0, Hooks(timed)), device)
    seconds, matrix_seconds = np.array(timed.pairs[WARM_UP:]).T
    flops, rates = StepCost(model, recipe, len(images)).flops(FULL_SIDE), matrix_rates(matrix_seconds)
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


class Alternating(NullReporter):
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


<<<<<<< HEAD
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
=======
def lines(recipe: str, steps: list[Step]) -> list[str]:
    """Return the measurements as lines of Markdown."""
>>>>>>> f96c536ffb6ec0c0eec518eb05aa8f85032c2da7
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
