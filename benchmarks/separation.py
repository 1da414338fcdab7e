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

from benchmarks.measure import interleave, matrix_products, matrix_rates, noise, peak_memory, read_model, write_section
from src.core.device import pick_device, seed_everything
from src.core.errors import exit_cleanly
<<<<<<< HEAD
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
=======
from src.data.prepared import CLASSES, Split
from src.network.vgg import VGG, vgg16_plan
from src.separation.centers import CenterReceiver, SumReceiver
from src.separation.neighbours import separation_index
from src.separation.scores import Scores
from src.separation.stream import stream
>>>>>>> f96c536ffb6ec0c0eec518eb05aa8f85032c2da7

PAGE = Path("benchmarks/separation.md")
IMAGES, NEIGHBOUR_IMAGES = 1000, 10_000
DIMS = 65_536  # of the widest layer of VGG16
RUNS = 3
INTRODUCTION = """# How fast separation is measured

Written by `python -m benchmarks.separation`, one section per processor. Medians of runs that alternate, in one process,
with what they are compared to."""


class Params(Shared):
    """What this benchmark reads of params.yaml."""

    model: ModelSettings


def main() -> None:
    """Measure, and write the section of this processor."""
<<<<<<< HEAD
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
=======
    device = pick_device("auto")
    seed_everything(0)
    model = VGG(vgg16_plan(read_model())).to(device).eval()
    table = ["| what | measured |", "|---|---:|", *centers(model), *neighbours(device)]
    write_section(PAGE, INTRODUCTION, device, ["", *table])


def centers(model: VGG) -> list[str]:
    """Return the rows of CSI of all layers."""
    split = noise(IMAGES)
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
>>>>>>> f96c536ffb6ec0c0eec518eb05aa8f85032c2da7


def separate(model: VGG, split: Split) -> dict[str, Scores]:
    """Return leave-one-out CSI of all layers, as the stage csi measures it on the training images."""
    sums = SumReceiver(split.labels, len(CLASSES))
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
