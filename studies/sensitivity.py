"""How much does each layer bear? python -m studies.sensitivity (or: make study NAME=sensitivity).

Every convolution of the trained network is compressed alone, at several levels, without fine-tuning: channels removed
by ``taylor`` and by ``random``, low rank by kept energy, and weights rounded to few bits. The accuracy is that of
2,000 validation images. Beside it stands what each convolution adds to CSI on validation (plots/positions.csv). Writes
studies/results/sensitivity.csv and .png.
"""

import copy
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from src.compression.importance import importance
from src.compression.positions import separation_by_block
from src.core.files import write_csv
from src.core.recipes import ROOT
from src.data.prepared import PREPARED, Split, load_split
from src.network.cost import macs, parameters
from src.network.inference import accuracy, predict
from src.network.record import network_path
from src.network.vgg import VGG, load, rebuild
from src.pictures.style import save_figure
from src.techniques.factorize import factorized
from studies.items import Items, Row, computed, results_folder, run
from studies.pictures import heat_map

RESULTS = Path("studies/results/sensitivity.csv")
SHARES = (0.125, 0.25, 0.5, 0.75, 0.875)  # of the channels of a layer that are removed
ENERGIES = (0.95, 0.9, 0.8, 0.6, 0.4)  # that are kept in each direction
BITS = (8, 6, 4)
VALIDATION_IMAGES = 2000
IMPORTANCE_IMAGES, IMPORTANCE_BATCH = 1000, 50
SEED = 0


def main() -> None:
    """Compute what is missing, then write the table and the picture."""
    inputs = [network_path(ROOT), PREPARED / "train.npz", PREPARED / "validation.npz"]
    folder = results_folder("sensitivity", inputs)
    network = load(network_path(ROOT))
    validation = load_split("validation").sample(VALIDATION_IMAGES, SEED)
    sample = load_split("train").sample(IMPORTANCE_IMAGES, SEED)
    gains = gains_by_block(separation_by_block()["csi"])
    measured = computed(folder, items(network, sample, validation))
    rows = [row | {"csi_gain": gains.get(row["layer"])} for row in measured]
    write_csv(RESULTS, rows)
    save_figure(heat_map(rows), RESULTS.with_suffix(".png"))


def gains_by_block(csi: Mapping[str, float]) -> dict[str, float]:
    """Return how many percentage points each block adds to ``csi``, the values at the ends of all blocks in order.

    The first block has no gain: nothing was measured before it.
    """
    return {block: 100 * (csi[block] - csi[before]) for before, block in pairwise(csi)}


def items(network: VGG, sample: Split, validation: Split) -> Items:
    """Return what there is to compute: an item for each convolution, and one for the network as it is."""
    layers = {block.name: index for index, block in enumerate(network.plan.convolutions)}
    return {
        "none": lambda: [_row("", "none", 0, network, validation)],
        **{name: partial(layer_rows, network, index, sample, validation) for name, index in layers.items()},
    }


def layer_rows(network: VGG, index: int, sample: Split, validation: Split) -> list[Row]:
    """Return a row for each method and level, applied to the convolution ``index`` of ``network`` alone."""
    layer = network.plan.convolutions[index].name
    methods = {
        "taylor": _without_channels(network, index, "taylor", sample),
        "random": _without_channels(network, index, "random", sample),
        "low_rank": ((energy, factorized(network, energy, only=layer)) for energy in ENERGIES),
        "bits": ((bits, _rounded(network, index, bits)) for bits in BITS),
    }
    return [
        _row(layer, method, level, changed, validation)
        for method, levels in methods.items()
        for level, changed in levels
    ]


def _row(layer: str, method: str, level: float, network: VGG, validation: Split) -> Row:
    return {
        "layer": layer,
        "method": method,
        "level": level,
        "accuracy": accuracy(predict(network, validation.images), validation.labels),
        "macs": macs(network),
        "parameters": parameters(network),
    }


def _without_channels(network: VGG, index: int, name: str, sample: Split) -> Iterator[tuple[float, VGG]]:
    """Yield the network without each share of the channels of one convolution, the least important first."""
    scored, width = copy.deepcopy(network), network.convolutions[index].out_channels
    scores = importance(name, scored, sample, IMPORTANCE_BATCH, SEED)(_group(scored, index, [*range(width)]))
    for share in SHARES:
        pruned, removed = copy.deepcopy(network), scores.argsort()[: round(share * width)].tolist()
        _group(pruned, index, removed).prune()
        widths = list(network.plan.widths)
        widths[index] -= len(removed)
        yield share, rebuild(network.plan.with_widths(tuple(widths)), pruned.state_dict())


def _group(network: VGG, index: int, channels: list[int]) -> Any:
    """Return torch-pruning's group of ``channels`` of the convolution ``index`` and all that hangs on them."""
    graph = tp.DependencyGraph().build_dependency(network, torch.zeros(1, 3, network.plan.side, network.plan.side))
    return graph.get_pruning_group(network.convolutions[index], tp.prune_conv_out_channels, channels)


def _rounded(network: VGG, index: int, bits: int) -> VGG:
    changed = copy.deepcopy(network)
    layer = changed.convolutions[index]
    layer.weight = nn.Parameter(rounded(layer.weight.detach(), bits))
    return changed


def rounded(weight: Tensor, bits: int) -> Tensor:
    """Return ``weight`` [out, ...] rounded to integers of ``bits`` bits times one scale per output channel.

    The integers go from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1; the scale of a channel takes its largest absolute
    value to the end of this range.
    """
    largest = weight.abs().flatten(1).amax(1).clamp(min=torch.finfo(weight.dtype).tiny)
    scale = (largest / (2 ** (bits - 1) - 1)).view(-1, *[1] * (weight.dim() - 1))
    return (weight / scale).round() * scale


if __name__ == "__main__":
    run(main, __doc__)
