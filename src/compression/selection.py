"""Greedy selection of channels: one after the other, the channel whose addition separates the classes best.

The filter selection of Saffar, Kalhor, Habibnia 2024 (doi 10.1038/s41598-024-68172-6), here with the distance to class
centers (CSI) instead of the nearest neighbour. The squared distance from an image to the center of a class is a sum
over channels, so that the distances of a set of channels need no second look at the images. Centers come from one half
of the images, and distances from the other: an image is never a part of the center that it is compared with.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.data.prepared import Split
from src.network.inference import predict
from src.network.vgg import VGG

BATCH_SIZE = 100
Receiver = Callable[[nn.Module, Tensor], None]  # gets a layer and its activations [n, channels, places]


def selection_scores(network: VGG, images: Split) -> dict[nn.Module, Tensor]:
    """Return for each convolution and hidden layer of ``network`` a score a channel (float32 [channels]).

    The channel that is selected first has the score ``channels``, the last one has 1. Activations are those after
    BatchNorm and ReLU, where a layer has them.
    """
    half = len(images) // 2
    centers, counts = _centers(network, images[:half])
    distances = _distances(network, images[half:], centers, counts)
    labels = images.labels[half:]
    return {layer: _scores(greedy_order(found, labels)) for layer, found in distances.items()}


def greedy_order(distances: Tensor, labels: Tensor) -> list[int]:
    """Return all channels in the order of their selection.

    ``distances`` [n, classes, channels] are the squared distances from n images to the centers of the classes in each
    channel; ``labels`` int64 [n]. The next channel is the one with which most images are nearest to the center of
    their own class; of several, the first.
    """
    total = distances.new_zeros(distances.shape[:2])
    left = list(range(distances.shape[2]))
    order = []
    while left:
        nearest = (total.unsqueeze(2) + distances[:, :, left]).argmin(1)
        right = (nearest == labels.unsqueeze(1)).sum(0)
        order.append(left.pop(int(right.argmax())))
        total = total + distances[:, :, order[-1]]
    return order


def _scores(order: list[int]) -> Tensor:
    scores = torch.empty(len(order))
    scores[order] = torch.arange(len(order), 0, -1.0)
    return scores


def _centers(network: VGG, images: Split) -> tuple[dict[nn.Module, Tensor], Tensor]:
    """Return the mean activations of each class, [classes, channels, places] a layer, and the images of each class."""
    classes = network.plan.classes
    counts = torch.bincount(images.labels, minlength=classes)
    sums: dict[nn.Module, Tensor] = {}
    for batch in _batches(images):
        members = F.one_hot(batch.labels, classes).float()

        def add(layer: nn.Module, maps: Tensor, members: Tensor = members) -> None:
            total = torch.einsum("nk,ncp->kcp", members, maps)
            sums[layer] = sums[layer].add_(total) if layer in sums else total

        _run(network, batch.images, add)
    return {layer: total / counts.clamp(min=1).view(-1, 1, 1) for layer, total in sums.items()}, counts


def _distances(
    network: VGG, images: Split, centers: dict[nn.Module, Tensor], counts: Tensor
) -> dict[nn.Module, Tensor]:
    """Return squared distances [n, classes, channels] a layer; infinite to the center of a class without images."""
    parts: dict[nn.Module, list[Tensor]] = {layer: [] for layer in centers}

    def add(layer: nn.Module, maps: Tensor) -> None:
        parts[layer].append(channel_distances(maps, centers[layer]))

    for batch in _batches(images):
        _run(network, batch.images, add)
    missing = (counts == 0).view(1, -1, 1)
    return {layer: torch.cat(found).masked_fill(missing, math.inf) for layer, found in parts.items()}


def channel_distances(maps: Tensor, centers: Tensor) -> Tensor:
    """Return the squared distances [n, classes, channels] between ``maps`` and ``centers`` in each channel.

    ``maps`` [n, channels, places] and ``centers`` [classes, channels, places]. Computed as |x|^2 - 2 x.m + |m|^2.
    """
    products = torch.einsum("ncp,kcp->nkc", maps, centers)
    return maps.square().sum(2).unsqueeze(1) - 2 * products + centers.square().sum(2)


def _batches(images: Split) -> list[Split]:
    return [images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)]


def _run(network: VGG, images: Tensor, receive: Receiver) -> None:
    """Run uint8 ``images`` through ``network``; ``receive`` gets each layer and its activations as they appear."""

    def hook(layer: nn.Module, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        receive(layer, output.reshape(*output.shape[:2], -1))

    ends = _activations(network)
    handles = [module.register_forward_hook(partial(hook, layer)) for layer, module in ends.items()]
    try:
        predict(network, images)
    finally:
        for handle in handles:
            handle.remove()


def _activations(network: VGG) -> dict[nn.Module, nn.Module]:
    """Return for each convolution and hidden layer the module that gives its activations: its ReLU, if it has one."""
    ends: dict[nn.Module, nn.Module] = {}
    for module in (*network.features, *list(network.classifier)[:-1]):
        if isinstance(module, nn.Conv2d | nn.Linear):
            layer = module
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.ReLU):
            ends[layer] = module
    return ends
