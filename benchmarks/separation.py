"""How fast separation is measured on this machine, and how far from the forward passes and products that it needs.

    python -m benchmarks.separation

Writes the section of this processor in benchmarks/separation.md; sections of other processors stay. Each figure is the
median of runs that alternate, in one process, with what it is compared to. The images are noise: the speed does not
depend on what they show, and noise is the worst case for neighbours, whose distances it makes alike.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import (
    CLASSES,
    interleave,
    matrix_products,
    matrix_rates,
    noise,
    peak_memory,
    read_plan,
    write_section,
)
from src.core.device import pick_device, seed_everything
from src.core.errors import exit_cleanly
from src.data.prepared import Split
from src.network.vgg import VGG
from src.separation.centers import CenterReceiver, SumReceiver
from src.separation.neighbours import separation_index
from src.separation.scores import Scores
from src.separation.stream import stream

PAGE = Path("benchmarks/separation.md")
IMAGES, NEIGHBOUR_IMAGES = 1000, 10_000
DIMS = 65_536  # of the widest layer of VGG16
RUNS = 3
INTRODUCTION = """# How fast separation is measured

Written by `python -m benchmarks.separation`, one section per processor. Medians of runs that alternate, in one process,
with what they are compared to."""


def main() -> None:
    """Measure, and write the section of this processor."""
    device = pick_device("auto")
    seed_everything(0)
    model = VGG(read_plan()).to(device).eval()
    table = ["| what | measured |", "|---|---:|", *centers(model), *neighbours(device)]
    write_section(PAGE, INTRODUCTION, device, ["", *table])


def centers(model: VGG) -> list[str]:
    """Return the rows of CSI of all layers."""
    split = noise(IMAGES, model.plan)
    csi, forward = partial(separate, model, split), partial(stream, model, split.images, [])
    before = peak_memory(forward, model.mean.device)  # first, as memory that was in use may stay with the process
    memory = peak_memory(csi, model.mean.device) - before
    seconds, forward_seconds = interleave(csi, forward, RUNS, 1).T
    return [
        f"| CSI of all layers, {IMAGES:,} images: against the two forward passes that it needs "
        f"| {np.median(seconds / forward_seconds) / 2:.2f} times as long |",
        f"| the same: time per image | {1000 * np.median(seconds) / IMAGES:.2f} ms |",
        f"| the same: memory above that of a forward pass | {memory / 1e6:.0f} MB |",
    ]


def separate(model: VGG, split: Split) -> dict[str, Scores]:
    """Return leave-one-out CSI of all layers, as the stage csi measures it on the training images."""
    sums = SumReceiver(split.labels, model.plan.classes)
    stream(model, split.images, [sums])
    scorer = CenterReceiver(split.labels, sums.centers(), leave_one_out=True)
    stream(model, split.images, [scorer])
    return scorer.scores()


def neighbours(device: torch.device) -> list[str]:
    """Return the rows of SI of one layer.

    The share of the rate of matrix products counts the whole matrix of distances. As it is symmetric, half of it need
    not be computed, so the share may be above 1.
    """
    points = torch.randn(NEIGHBOUR_IMAGES, DIMS, device=device).relu_()
    labels = torch.arange(NEIGHBOUR_IMAGES, device=device) % len(CLASSES)
    products = matrix_products(device, torch.float32)
    seconds, floor = interleave(partial(separation_index, points, labels), products, RUNS, 0).T
    rates, needed = matrix_rates(floor), 2 * NEIGHBOUR_IMAGES**2 * DIMS
    return [
        f"| SI of one layer of {DIMS:,} values, {NEIGHBOUR_IMAGES:,} images | {np.median(seconds):.1f} s |",
        f"| the same: share of the rate of matrix products ({np.median(rates) / 1e9:.0f} GFLOP/s), "
        f"the whole matrix counted | {np.median(needed / seconds / rates):.0%} |",
    ]


if __name__ == "__main__":
    exit_cleanly(main)
