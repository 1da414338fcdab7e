"""Share weights: each layer has a codebook of a few values, and each of its weights is one of them; then fine-tuning.

Han, Mao and Dally 2016, "Deep compression: compressing deep neural networks with pruning, trained quantization and
Huffman coding" (arXiv:1510.00149), section 3. Few values save bytes once the file is compressed. They save no time: the
computation stays in float32. The paper adds up the gradients of the weights that share a value; here the optimizer
changes each weight, and after each step the weights that share a value get their mean.
"""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import FineTuned
from src.compression.training import fine_tune
from src.network.vgg import VGG

SAMPLE = 50_000  # weights of a layer that k-means looks at
ZERO = 0  # the label of weights that are zero


class Settings(FineTuned):
    """How many values the weights of a layer may have, and how to fine-tune."""

    kept: ClassVar[tuple[str, ...]] = ("prune_weights",)
    values: int = Field(ge=8, le=256)


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` with shared weights, fine-tuned; which weights share a value follows from the parent alone.

    BatchNorm is not folded when the network is exported: each channel's factor would give it values of its own.
    """
    network = candidate.network
    labels = [clusters(layer.weight, settings.values, context.seed) for layer in network.weighted_layers]

    def after_step(model: VGG, progress: float) -> None:
        share(model, labels)

    share(network, labels)
    step = f"gave the weights of each layer at most {settings.values} values, "
    return fine_tune(candidate, network, step, context, settings, after_step=after_step, fold=False)


def clusters(weight: Tensor, values: int, seed: int) -> np.ndarray:
    """Return the label of each entry of ``weight``, in its logical order: int64 [entries].

    Entries with the same label share a value: the one of the codebook that is nearest to them. Zeros have the label
    `ZERO`, and no others have it; where there are zeros, zero is one of the ``values``.
    """
    entries = weight.detach().cpu().double().numpy().ravel()
    filled = entries != 0
    book = codebook(entries[filled], values if filled.all() else values - 1, seed)
    labels = np.full(entries.shape, ZERO)
    labels[filled] = 1 + np.searchsorted((book[1:] + book[:-1]) / 2, entries[filled])
    return labels


def codebook(entries: np.ndarray, values: int, seed: int) -> np.ndarray:
    """Return at most ``values`` numbers, in rising order, near which the ``entries`` lie: float64 [values].

    They are the means of k-means in one dimension, found on `SAMPLE` entries drawn by ``seed``. They start at equal
    distances between the smallest and the largest entry: large weights are few but matter (section 3.2 of the paper).
    One thread adds up in a fixed order, so the result is the same in every run.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    distinct = np.unique(entries)
    if len(distinct) <= values:
        return distinct
    drawn = np.random.default_rng(seed).choice(entries, min(SAMPLE, len(entries)), replace=False)
    start = np.linspace(distinct[0], distinct[-1], values)
    with threadpool_limits(1):
        fitted = KMeans(values, init=start.reshape(-1, 1), n_init=1, random_state=seed).fit(drawn.reshape(-1, 1))
    return np.sort(fitted.cluster_centers_.ravel())


@torch.no_grad()
def share(network: VGG, labels: list[np.ndarray]) -> None:
    """Set each weight of ``network`` to the mean of the weights of its layer with the same label, in place.

    ``labels`` hold for each layer what `clusters` gave. Weights with the label `ZERO` become zero. Biases and BatchNorm
    are left alone.
    """
    for layer, own in zip(network.weighted_layers, labels, strict=True):
        entries = layer.weight.detach().cpu().numpy().ravel()
        means = np.bincount(own, entries) / np.maximum(np.bincount(own), 1)
        means[ZERO] = 0
        shared = means.astype(np.float32)[own].reshape(layer.weight.shape)
        layer.weight.copy_(torch.from_numpy(shared))
