"""How fast separation is measured on this machine, and how far from the forward passes and products that it needs.

    python -m benchmarks.separation
    python -m benchmarks.separation --images 2000 --pairs 3

Writes the section of this processor in benchmarks/separation.md; sections of other processors stay. Each figure is the
median of runs that are interleaved, in one process, with what it is compared to. The images are noise: the speed does
not depend on what they show, and noise is the worst case for neighbours, whose distances it makes alike.
"""

import argparse
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.training import (
    MATRIX_PRODUCTS,
    MATRIX_SIDE,
    forget_peak_memory,
    interleave,
    matrix_products,
    noise,
    peak_memory,
    with_section,
)
from src.core.device import pick_device, seed_everything
from src.core.errors import exit_cleanly
from src.core.files import atomic
from src.core.params import PARAMS, Shared, read_yaml, validate
from src.data.prepared import CLASSES, Split
from src.export.latency import cpu_name
from src.network.inference import to_unit
from src.network.vgg import VGG, ModelSettings, vgg16_plan
from src.separation.centers import CenterReceiver, SumReceiver
from src.separation.neighbours import separation_index
from src.separation.scores import Scores
from src.separation.stream import output_hooks, stream

PAGE = Path("benchmarks/separation.md")
DIMS = 65_536  # of the widest layer of VGG16
ORIGINAL_SHARE, ORIGINAL_BATCH = 10, 100  # the original study's way is measured on a tenth of the images


class Params(Shared):
    """What this benchmark reads of params.yaml."""

    model: ModelSettings


def main() -> None:
    """Measure, and write the section of this processor."""
    chosen = _arguments()
    params = validate(Params, {key: value for key, value in read_yaml(PARAMS).items() if key in Params.model_fields})
    device = pick_device(params.device)
    seed_everything(params.seed)
    model = VGG(vgg16_plan(params.model)).to(device).eval()
    figures = measured(model, chosen.images, chosen.neighbour_images, chosen.pairs)
    section = page(figures, device, chosen.images, chosen.neighbour_images)
    print(section)
    with atomic(PAGE) as temporary:
        before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        temporary.write_text(with_section(before, section, INTRODUCTION), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.separation", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000, help="images of the CSI of all layers (default: 1000)")
    parser.add_argument("--neighbour-images", type=int, default=10_000, help="images of SI (default: 10000)")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each figure (default: 3)")
    return parser.parse_args()


def measured(model: VGG, images: int, neighbour_images: int, pairs: int) -> dict[str, float]:
    """Return all figures: ratios, shares, seconds per image, and bytes."""
    device = model.mean.device
    split, few = noise(images), noise(max(len(CLASSES) * 2, images // ORIGINAL_SHARE))
    csi, forward = partial(separate, model, split), partial(two_passes, model, split)
    before = memory_of(forward, device)  # first, as memory that was once in use may stay with the process
    memory = memory_of(csi, device) - before
    against_forward = interleave(csi, forward, pairs, 1) / 1000
    against_original = interleave(csi, partial(original_way, model, few), pairs, 0) / 1000
    per_image = against_original / (len(split), len(few))
    return {
        "csi": float(np.median(against_forward[:, 0])) / images,
        "forward_ratio": float(np.median(against_forward[:, 0] / against_forward[:, 1])),
        "original_ratio": float(np.median(per_image[:, 1] / per_image[:, 0])),
        "memory": memory,
        **neighbours(neighbour_images, device, pairs),
    }


def separate(model: VGG, split: Split) -> dict[str, Scores]:
    """Return leave-one-out CSI of all layers, as the stage csi measures it on the training images."""
    sums = SumReceiver(split.labels, len(CLASSES))
    stream(model, split.images, [sums])
    scorer = CenterReceiver(split.labels, sums.centers(), leave_one_out=True)
    stream(model, split.images, [scorer])
    return scorer.scores()


def two_passes(model: VGG, split: Split) -> None:
    """Run the network over ``split`` twice, and do nothing else."""
    for _ in range(2):
        stream(model, split.images, [])


@torch.no_grad()
def original_way(model: VGG, split: Split) -> dict[str, float]:
    """Return in-sample CSI as the original study measures it: a whole pass for each layer, then torch.cdist."""
    names = [name for name, module in model.named_modules() if not list(module.children())]
    return {name: _in_sample(_kept(model, split.images, name), split.labels) for name in names}


def _kept(model: VGG, images: Tensor, wanted: str) -> Tensor:
    kept: list[Tensor] = []

    def keep(name: str, output: Tensor) -> None:
        if name == wanted:
            kept.append(output.flatten(1).clone())

    with output_hooks(model, keep):
        for batch in images.split(ORIGINAL_BATCH):
            model(to_unit(batch.to(model.mean.device)))
    return torch.cat(kept)


def _in_sample(points: Tensor, labels: Tensor) -> float:
    labels = labels.to(points.device)
    centers = torch.stack([points[labels == number].mean(0) for number in range(len(CLASSES))])
    return float((torch.cdist(points, centers).argmin(1) == labels).double().mean())


def neighbours(images: int, device: torch.device, pairs: int) -> dict[str, float]:
    """Return seconds of SI of one layer, and its share of the rate of matrix products.

    The share counts the whole matrix of distances. As it is symmetric, half of it need not be computed, so the share
    may be above 1.
    """
    points = torch.randn(images, DIMS, device=device).relu_()
    labels = torch.arange(images, device=device) % len(CLASSES)
    products = matrix_products(device, torch.float32)
    si, floor = (interleave(partial(separation_index, points, labels), products, pairs, 0) / 1000).T
    rate = 2 * MATRIX_SIDE**3 * MATRIX_PRODUCTS / floor
    needed = 2 * images**2 * DIMS
    return {
        "si": float(np.median(si)),
        "matrix_rate": float(np.median(rate)),
        "si_share": float(np.median(needed / si / rate)),
    }


def memory_of(function: Callable[[], object], device: torch.device) -> float:
    """Return the most bytes in use while ``function`` runs."""
    forget_peak_memory(device)
    function()
    return peak_memory(device)


INTRODUCTION = """# How fast separation is measured

Written by `python -m benchmarks.separation`, one section for each processor. Medians of runs that are interleaved in
one process with what they are compared to."""


def page(figures: dict[str, float], device: torch.device, images: int, neighbour_images: int) -> str:
    """Return the measurements as a section of Markdown."""
    where = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{cpu_name()}, {torch.get_num_threads()} threads"
    )
    rows = [
        f"| CSI of all layers, {images:,} images: against the two forward passes that it needs "
        f"| {figures['forward_ratio']:.2f} times as long |",
        f"| the same: time for each image | {figures['csi'] * 1000:.2f} ms |",
        f"| the same: against a whole pass for each layer and torch.cdist, for each image "
        f"| {figures['original_ratio']:.0f} times as fast |",
        f"| the same: memory above that of the forward passes | {figures['memory'] / 1e6:.0f} MB |",
        f"| SI of one layer of {DIMS:,} values, {neighbour_images:,} images | {figures['si']:.1f} s |",
        f"| the same: share of the rate of matrix products ({figures['matrix_rate'] / 1e9:.0f} GFLOP/s), "
        f"the whole matrix counted | {figures['si_share']:.0%} |",
    ]
    versions = f"PyTorch {torch.__version__}, Python {platform.python_version()}."
    return "\n".join([f"## {where}", "", versions, "", "| what | measured |", "|---|---:|", *rows])


if __name__ == "__main__":
    exit_cleanly(main)
