"""How fast training is here, and how far from what the machine can do.

    python -m benchmarks.training > benchmarks/README.md

Prints a page of Markdown. Each figure is the median of five runs that take turns with what it is compared to,
in one process: on a shared machine other programs slow both.
"""

import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.torchvision_compat import torchvision
from src.core.dataset import Split
from src.core.device import multiplies_bfloat16_fast, pick_device, seed_everything
from src.core.errors import exit_cleanly
from src.core.params import load_params
from src.deployment.latency import cpu_name, interleave
from src.network.cost import FLOPS_PER_MAC_TRAINING, macs
from src.network.inference import to_unit
from src.network.vgg import VGG, ModelSettings, vgg16_plan
from src.training.augment import Crops
from src.training.initialization import initialize
from src.training.loop import Hooks, NullReporter, fit
from src.training.schedule import TrainRecipe, chosen_recipe
from stages.train import Params

PAIRS, WARM_UP = 5, 2
CLEAR_PEAK, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
MATRIX_SIDE, MATRIX_PRODUCTS = 2048, 10
PIPELINE_IMAGES = 10_000
ORIGINAL_WORKERS, ORIGINAL_PADDING = 4, 4  # of the original study's DataLoader and crops


class Alternating(NullReporter):
    """A `training.Reporter` that times each training step and, after it, ``other``: seconds, in pairs."""

    def __init__(self, other: Callable[[], None], device: torch.device) -> None:
        self.other, self.device = other, device
        self.pairs: list[tuple[float, float]] = []
        self.mark = self._now()

    def step(self, epoch: int, done: int, total: int) -> None:
        """A step is done: note how long it took, and time ``other``."""
        between = self._now()
        self.other()
        end = self._now()
        self.pairs.append((between - self.mark, end - between))
        self.mark = end

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


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
    """Measure and print."""
    params = load_params("train", Params)
    train = params.train
    recipe = chosen_recipe(train.recipe, train.defaults, train.recipes)
    device = pick_device(params.device)
    seed_everything(params.seed)
    precisions = [False, True] if multiplies_bfloat16_fast(device) else [False]
    steps = [training_step(params.model, recipe, size, mixed, device) for size in (16, 24, 32) for mixed in precisions]
    print(page(train.recipe, device, steps, input_pipeline(recipe.batch_size, device)))


def training_step(
    settings: ModelSettings, recipe: TrainRecipe, size: int, mixed_precision: bool, device: torch.device
) -> dict[str, Any]:
    """Pace of the steps of ``recipe`` on images of ``size`` pixels, in turns with a float32 matrix product."""
    changes = {"phases": [{"size": size, "epochs": 1}], "warmup_epochs": 0.0, "mixed_precision": mixed_precision}
    recipe = TrainRecipe(**recipe.model_dump() | changes)
    images = noise((WARM_UP + PAIRS) * recipe.batch_size)
    model = initialize(VGG(vgg16_plan(settings)), recipe, images.images).to(device)
    forget_peak_memory(device)
    timed = Alternating(matrix_products(device), device)
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
    }


def matrix_products(device: torch.device) -> Callable[[], None]:
    """A call that multiplies two float32 matrices a few times."""
    one, other = torch.randn(2, MATRIX_SIDE, MATRIX_SIDE, device=device)

    def products() -> None:
        for _ in range(MATRIX_PRODUCTS):
            torch.mm(one, other)

    return products


def input_pipeline(batch_size: int, device: torch.device) -> dict[str, float]:
    """Images a second from uint8 to augmented float32 batches: ours, and the original study's way on the CPU."""
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


def batches(crops: Crops, batch_size: int) -> Iterator[Tensor]:
    """Augmented batches of one shuffled pass, as the training loop makes them."""
    generator = torch.Generator().manual_seed(0)
    for chosen in torch.randperm(PIPELINE_IMAGES, generator=generator).split(batch_size):
        yield to_unit(crops.cut(crops.draw(chosen, torch.rand(len(chosen)) < 0.5, generator)))


def noise(count: int) -> Split:
    """``count`` images of noise; how fast they are worked on does not depend on what they show."""
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    return Split(images, torch.arange(count) % 10)


def forget_peak_memory(device: torch.device) -> None:
    """Start anew for `peak_memory`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif CLEAR_PEAK.exists():
        CLEAR_PEAK.write_text("5")


def peak_memory(device: torch.device) -> float:
    """The most bytes in use since `forget_peak_memory`: tensors on a GPU, the process on a Linux CPU, else NaN."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if not STATUS.exists():
        return float("nan")
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def page(recipe: str, device: torch.device, steps: list[dict[str, Any]], pipeline: dict[str, float]) -> str:
    """Return the measurements as Markdown."""
    matrix_rate = np.median([step["matrix_rate"] for step in steps])
    where = torch.cuda.get_device_name() if device.type == "cuda" else cpu_name()
    head = [
        "# How fast training is",
        "",
        "Printed by `python -m benchmarks.training`. Medians of five runs, each interleaved in one process with what",
        "it is compared to.",
        "",
        f"- Machine: {where}, {torch.get_num_threads()} threads; PyTorch {torch.__version__}, "
        f"torchvision {torchvision.__version__}, Python {platform.python_version()}.",
        f"- Floor: {MATRIX_SIDE} x {MATRIX_SIDE} float32 matrix products run at {matrix_rate / 1e9:.0f} GFLOP/s.",
        "",
    ]
    return "\n".join([*head, *_steps_section(recipe, steps), "", *_pipeline_section(pipeline)])


def _steps_section(recipe: str, steps: list[dict[str, Any]]) -> list[str]:
    rows = [
        f"| {step['size']} | {step['precision']} | {step['steps']:.3g} | {step['images']:.0f} "
        f"| {step['rate'] / 1e9:.0f} | {100 * step['share']:.0f} % | {step['memory'] / 2**30:.2f} |"
        for step in steps
    ]
    return [
        f"## Whole training steps of the recipe `{recipe}`",
        "",
        "Augmentation, forward and backward pass, optimizer and average of the weights. GFLOP/s counts the",
        "convolutions and linear layers alone (6 a multiply-accumulate); the share is that of the float32 matrix",
        "rate. Memory is that of the process, or of the tensors on a GPU.",
        "",
        "| pixels | precision | steps/s | images/s | GFLOP/s | share | peak memory, GiB |",
        "|---:|---|---:|---:|---:|---:|---:|",
        *rows,
    ]


def _pipeline_section(pipeline: dict[str, float]) -> list[str]:
    return [
        "## Input pipeline",
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
