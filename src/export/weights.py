"""How the weights of a network are distributed, as far as a picture of them needs to know.

Weights are the entries of all filter banks and matrices; biases and BatchNorm are left out.
"""

from typing import Any

import numpy as np

from src.export.onnx import layer_names
from src.network.vgg import VGG

BIN = 0.004  # width of a bin
SIDE_BINS = 50  # bins on each side of the one in the middle
MOST_VALUES = 256  # a layer with more distinct values has no codebook
Weights = dict[str, np.ndarray]


def layer_weights(network: VGG) -> Weights:
    """Return the weights of each layer of ``network``, by the name of its block: float32 [entries]."""
    modules = dict(network.named_modules())
    return {
        name: modules[module].weight.detach().cpu().numpy().ravel() for module, name in layer_names(network).items()
    }


def histogram(weights: Weights) -> dict[str, list[float] | list[int]]:
    """Return how many of ``weights``, those of all layers together, lie in each of 101 bins.

    ``values``: the centers of the bins, from -0.2 to 0.2; ``counts``: the weights in each bin; ``zeros``: those of them
    that are exactly zero, which only the bin in the middle has. The first and the last bin also count what lies beyond
    them.
    """
    centers = BIN * np.arange(-SIDE_BINS, SIDE_BINS + 1)
    bounds = float(centers[0] - BIN / 2), float(centers[-1] + BIN / 2)
    counts, zeros = np.zeros(len(centers), np.int64), np.zeros(len(centers), np.int64)
    for entries in weights.values():
        inside = np.clip(entries, centers[0], centers[-1])
        counts += np.histogram(inside, len(centers), bounds)[0]
        zeros[SIDE_BINS] += np.count_nonzero(entries == 0)
    return {"values": centers.tolist(), "counts": counts.tolist(), "zeros": zeros.tolist()}


def codebook(weights: Weights) -> dict[str, dict[str, Any]]:
    """Return the distinct values of each layer of ``weights`` in rising order, and how many weights have each of them.

    Empty if a layer has more than `MOST_VALUES` distinct values: then the network has no codebook.
    """
    books = {}
    for layer, entries in weights.items():
        values, counts = np.unique(entries, return_counts=True)
        if len(values) > MOST_VALUES:
            return {}
        books[layer] = {"values": values.tolist(), "counts": counts.tolist()}
    return books
