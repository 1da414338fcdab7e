"""How much does each layer bear? python -m studies.sensitivity (or: make study NAME=sensitivity).

Every convolution of the trained network is compressed alone, at several levels, without fine-tuning: channels removed
by ``taylor`` and by ``random``, low rank by kept energy, and weights rounded to few bits. The accuracy is that of
2,000 validation images. Beside it stands what each convolution adds to CSI on validation (plots/positions.csv). Writes
studies/results/sensitivity.csv and .png.
"""

import argparse
import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from src.compression.record import network_path
from torch import Tensor, nn

from src.compression.candidate import random_images
from src.compression.importance import importance
from src.compression.positions import separation_by_block
from src.compression.tree import ROOT
from src.core.errors import exit_cleanly
from src.core.files import write_csv
from src.data.prepared import PREPARED, Split, load_split
from src.network.cost import macs, parameters
from src.network.inference import accuracy, predict
from src.network.vgg import VGG, load, rebuild
from src.pictures.sensitivity import heat_map
from src.pictures.style import save_figure
from src.techniques.factorize import factorized
from studies.items import Row, computed, fingerprint

RESULTS = Path("studies/results/sensitivity.csv")
SHARES = (0.125, 0.25, 0.5, 0.75, 0.875)  # of the channels of a layer that are removed
ENERGIES = (0.95, 0.9, 0.8, 0.6, 0.4)  # that are kept in each direction
BITS = (8, 6, 4)
VALIDATION_IMAGES = 2000
IMPORTANCE_IMAGES, IMPORTANCE_BATCH = 1000, 50
SEED = 0


def main() -> None:
    """Compute what is missing, then write the table and the picture."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    files = [network_path(ROOT), PREPARED / "train.npz", PREPARED / "validation.npz", Path(__file__)]
    depends_on = fingerprint(files, images=VALIDATION_IMAGES)
    network = load(network_path(ROOT))
    validation = random_images(load_split("validation"), VALIDATION_IMAGES, SEED)
    sample = random_images(load_split("train"), IMPORTANCE_IMAGES, SEED)
    gains = gains_by_block(separation_by_block()["csi"])
    measured = computed("sensitivity", depends_on, items(network, sample, validation))
    rows = [row | {"csi_gain": gains.get(row["layer"])} for row in measured]
    write_csv(RESULTS, rows)
    save_figure(heat_map(rows), RESULTS.with_suffix(".png"))


def gains_by_block(csi: Mapping[str, float]) -> dict[str, float]:
    """Return how many percentage points each block adds to ``csi``, the values at the ends of all blocks in order.

    The first block has no gain: nothing was measured before it.
    """
    return {block: 100 * (csi[block] - csi[before]) for before, block in pairwise(csi)}


def items(network: VGG, sample: Split, validation: Split) -> dict[str, Callable[[], list[Row]]]:
    """Return what there is to compute: an item for each convolution and method, and the network as it is."""
    methods = {
        "taylor": partial(_without_channels, name="taylor", sample=sample),
        "random": partial(_without_channels, name="random", sample=sample),
        "low_rank": _low_rank,
        "bits": _rounded,
    }
    found = {"none": partial(_measured, network, validation, "", "none", lambda *_: iter([(0, network)]), -1)}
    for index, block in enumerate(network.plan.convolutions):
        for method, change in methods.items():
            item = partial(_measured, network, validation, block.name, method, change, index)
            found[f"{block.name}-{method}"] = item
    return found


Change = Callable[[VGG, int], Iterator[tuple[float, VGG]]]


def _measured(network: VGG, validation: Split, layer: str, method: str, change: Change, index: int) -> list[Row]:
    """Return a row for each level of ``method``, applied to convolution ``index`` alone."""
    return [
        {
            "layer": layer,
            "method": method,
            "level": level,
            "accuracy": accuracy(predict(changed, validation.images), validation.labels),
            "macs": macs(changed),
            "parameters": parameters(changed),
        }
        for level, changed in change(network, index)
    ]


def _without_channels(network: VGG, index: int, name: str, sample: Split) -> Iterator[tuple[float, VGG]]:
    """Yield the network without a share of the channels of one convolution, the least important first."""
    import torch_pruning as tp

    def group(whole: VGG, channels: list[int]) -> Any:
        graph = tp.DependencyGraph().build_dependency(whole, torch.zeros(1, 3, 32, 32))
        return graph.get_pruning_group(whole.convolutions[index], tp.prune_conv_out_channels, channels)

    scored = copy.deepcopy(network)
    every = [*range(scored.convolutions[index].out_channels)]
    order = importance(name, scored, sample, IMPORTANCE_BATCH, SEED)(group(scored, every)).argsort()
    for share in SHARES:
        pruned = copy.deepcopy(network)
        group(pruned, order[: round(share * len(every))].tolist()).prune()
        widths = list(network.plan.widths)
        widths[index] = pruned.convolutions[index].out_channels
        yield share, rebuild(network.plan.with_widths(tuple(widths)), pruned.state_dict())


def _low_rank(network: VGG, index: int) -> Iterator[tuple[float, VGG]]:
    """Yield the network with one convolution factorized, for each share of kept energy."""
    for energy in ENERGIES:
        yield energy, factorized(network, energy, only=network.plan.convolutions[index].name)


def _rounded(network: VGG, index: int) -> Iterator[tuple[float, VGG]]:
    """Yield the network with the weights of one convolution rounded, for each number of bits."""
    for bits in BITS:
        changed = copy.deepcopy(network)
        layer = changed.convolutions[index]
        layer.weight = nn.Parameter(rounded(layer.weight.detach(), bits))
        yield bits, changed


def rounded(weight: Tensor, bits: int) -> Tensor:
    """Return ``weight`` [out, ...] rounded to integers of ``bits`` bits times one scale for each output channel.

    The integers go from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1; the scale of a channel takes its largest absolute
    value to the end of this range.
    """
    largest = weight.abs().flatten(1).amax(1).clamp(min=torch.finfo(weight.dtype).tiny)
    scale = (largest / (2 ** (bits - 1) - 1)).view(-1, *[1] * (weight.dim() - 1))
    return (weight / scale).round() * scale


if __name__ == "__main__":
    exit_cleanly(main)
