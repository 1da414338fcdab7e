"""How the weights of a network are distributed: the rows of two tables, plots/weights.csv and plots/codebook.csv.

Weights are the entries of all filter banks and matrices; biases and BatchNorm are left out.
"""

import numpy as np

from src.network.vgg import VGG

BIN = 0.004  # width of a bin
SIDE_BINS = 50  # bins on each side of the one in the middle
MOST_VALUES = 256  # a layer with more distinct values has no codebook
Weights = dict[str, np.ndarray]
Row = dict[str, str | float]


def layer_weights(network: VGG) -> Weights:
    """Return the weights of each layer of ``network``, by the name of its block: float32 [entries].

    The last layer is no block of the plan and is called ``last``.
    """
    plan = network.plan
    names = [*(block.name for block in plan.convolutions), *(block.name for block in plan.head), "last"]
    matrices = [layer.weight.detach().cpu().numpy().ravel() for layer in network.weighted_layers]
    return dict(zip(names, matrices, strict=True))


def histogram(weights: Weights) -> list[Row]:
    """Return how many of ``weights``, those of all layers together, lie in each of 101 bins.

    ``value``: the center of the bin, from -0.2 to 0.2; ``count``: the weights in it; ``zeros``: those of them that are
    exactly zero, which only the bin in the middle has. The first and the last bin also count what lies beyond them.
    """
    centers = BIN * np.arange(-SIDE_BINS, SIDE_BINS + 1)
    bounds = float(centers[0] - BIN / 2), float(centers[-1] + BIN / 2)
    counts, zeros = np.zeros(len(centers), np.int64), np.zeros(len(centers), np.int64)
    for entries in weights.values():
        inside = np.clip(entries, centers[0], centers[-1])
        counts += np.histogram(inside, len(centers), bounds)[0]
        zeros[SIDE_BINS] += np.count_nonzero(entries == 0)
    columns = zip(centers.tolist(), counts.tolist(), zeros.tolist(), strict=True)
    return [{"value": value, "count": count, "zeros": zero} for value, count, zero in columns]


def codebook(weights: Weights) -> list[Row]:
    """Return each distinct value of each layer of ``weights``, in rising order, and how many weights have it.

    Empty if a layer has more than `MOST_VALUES` distinct values: then the network has no codebook.
    """
    books = {layer: np.unique(entries, return_counts=True) for layer, entries in weights.items()}
    if any(len(values) > MOST_VALUES for values, _ in books.values()):
        return []
    return [
        {"layer": layer, "value": value, "count": count}
        for layer, (values, counts) in books.items()
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
    ]
