"""Factorize: low rank. A filter bank becomes three thin convolutions, a matrix becomes two; then fine-tuning.

Tucker-2 decomposition of filter banks: Kim et al. 2016, "Compression of deep convolutional neural networks for fast and
low power mobile applications" (arXiv:1511.06530); computed by tensorly (higher-order orthogonal iteration). Matrices
are factorized by the singular value decomposition. A layer that would not get cheaper is left alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import FineTuned
from src.compression.training import fine_tune
from src.network.cost import macs
from src.network.folding import without_repeated_pool
from src.network.vgg import VGG, Conv, Hidden, Pool

Weights = tuple[Tensor, Tensor]  # weight and bias of one layer
Rank = Callable[[np.ndarray], int]  # of a tensor, unfolded along its first axis


class Settings(FineTuned):
    """The share of the energy (sum of squared singular values) to keep in each direction, and how to fine-tune.

    The ranks become multiples of ``round_to``, the nearest ones: kernels are faster then.
    """

    energy: float = Field(gt=0, le=1)
    round_to: int = Field(ge=1)


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` with factorized layers, fine-tuned."""
    whole = without_repeated_pool(candidate.network)
    network = factorized(whole, settings.energy, settings.round_to)
    step = (
        f"factorized with {settings.energy:.0%} of the energy: {len(network.plan.widths)} layers instead of "
        f"{len(whole.plan.widths)}, {macs(whole) / macs(network):.2f} times fewer MACs (validation accuracy before: "
        f"{context.validation_accuracy(whole):.4f}), "
    )
    return fine_tune(candidate, network, step, context, settings, fold=True)


def factorized(network: VGG, energy: float, round_to: int = 1, only: str | None = None) -> VGG:
    """Return ``network`` with each layer factorized that gets cheaper by it; the last layer stays as it is.

    ``energy`` and ``round_to`` as in `Settings`. ``only`` names a single block that may be factorized.
    """
    rank = partial(_rank, energy=energy, round_to=round_to)
    features: list[Conv | Pool] = []
    head: list[Hidden] = []
    weights: list[Weights] = []
    convolutions = iter(network.convolutions)
    for block in network.plan.features:
        if isinstance(block, Pool):
            features.append(block)
            continue
        layer = next(convolutions)
        parts = _convolutions(block, layer, rank) if only in (None, block.name) else [(block, _weights(layer))]
        features += [part for part, _ in parts]
        weights += [both for _, both in parts]
    *hidden_layers, last = network.linear_layers
    for hidden, linear in zip(network.plan.head, hidden_layers, strict=True):
        halves = _matrices(hidden, linear, rank) if only in (None, hidden.name) else [(hidden, _weights(linear))]
        head += [half for half, _ in halves]
        weights += [both for _, both in halves]
    weights.append(_weights(last))
    plan = network.plan.model_copy(update={"features": tuple(features), "head": tuple(head)})
    return _filled(VGG(plan, network.mean, network.std).to(network.mean.device), weights, network)


def _convolutions(block: Conv, layer: nn.Conv2d, rank_of: Rank) -> list[tuple[Conv, Weights]]:
    """Return the layer as 1 x 1, k x k and 1 x 1 convolutions, or as it is; BatchNorm and ReLU follow the last."""
    from tensorly.decomposition import partial_tucker

    bank = layer.weight.detach().double().cpu().numpy()
    into, out = rank_of(bank.swapaxes(0, 1)), rank_of(bank)
    width, channels, area = *bank.shape[:2], block.kernel**2
    if channels * into + into * out * area + out * width >= channels * width * area or block.kernel == 1:
        return [(block, _weights(layer))]
    (core, (last, first)), _ = partial_tucker(bank, rank=[out, into], modes=[0, 1], init="svd")
    plain: dict[str, Any] = {"batch_norm": False, "relu": False}
    thin: dict[str, Any] = {"kernel": 1, "padding": 0}
    return [
        (Conv(name=f"{block.name}.in", channels=into, **plain, **thin), _tensors(first.T[..., None, None])),
        (block.model_copy(update={"name": f"{block.name}.core", "channels": out, **plain}), _tensors(core)),
        (block.model_copy(update=thin), _tensors(last[..., None, None], layer.bias)),
    ]


def _matrices(block: Hidden, layer: nn.Linear, rank_of: Rank) -> list[tuple[Hidden, Weights]]:
    """Return the hidden layer as two, the first of them without ReLU, or as it is."""
    matrix = layer.weight.detach().double().cpu().numpy()
    rank = rank_of(matrix)
    if rank * sum(matrix.shape) >= matrix.size:
        return [(block, _weights(layer))]
    left, strengths, right = np.linalg.svd(matrix, full_matrices=False)
    first = Hidden(name=f"{block.name}.in", width=rank, relu=False)
    return [
        (first, _tensors(right[:rank])),
        (block, _tensors(left[:, :rank] * strengths[:rank], layer.bias)),
    ]


def _rank(tensor: np.ndarray, energy: float, round_to: int = 1) -> int:
    """Return how many singular values of ``tensor``, unfolded along its first axis, hold this share of the energy.

    It is rounded to the nearest multiple of ``round_to``, but to one at least, and to no more than there are values.
    """
    squares = np.linalg.svd(tensor.reshape(len(tensor), -1), compute_uv=False) ** 2
    rank = int(np.searchsorted(np.cumsum(squares), energy * squares.sum() * (1 - 1e-12)) + 1)
    return min(len(squares), max(1, round(rank / round_to)) * round_to)


def _weights(layer: nn.Conv2d | nn.Linear) -> Weights:
    tensors = layer.state_dict()
    return tensors["weight"], tensors["bias"]


def _tensors(weight: np.ndarray, bias: Tensor | None = None) -> Weights:
    return torch.tensor(weight, dtype=torch.float32), torch.zeros(len(weight)) if bias is None else bias.detach()


@torch.no_grad()
def _filled(target: VGG, weights: list[Weights], source: VGG) -> VGG:
    """Return ``target`` with ``weights`` in the order of its layers, and the BatchNorms of ``source``."""
    for layer, (weight, bias) in zip(target.weighted_layers, weights, strict=True):
        layer.load_state_dict({"weight": weight, "bias": bias})
    ours, theirs = ([layer for layer in net.features if isinstance(layer, nn.BatchNorm2d)] for net in (target, source))
    for norm, before in zip(ours, theirs, strict=True):
        norm.load_state_dict(before.state_dict())
    return target.eval()
