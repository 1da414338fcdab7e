"""Greedy selection of channels: one after the other, the channel whose addition separates the classes best.

The filter selection of Saffar, Kalhor, Habibnia 2024 (doi 10.1038/s41598-024-68172-6), here with the distance to class
centers (CSI) instead of the nearest neighbour. The squared distance from an image to the center of a class is a sum
over channels, so the distances of a set of channels need no second look at the images. Centers come from one half of
the images and distances from the other: no image is part of a center that it is compared with.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from src.data.prepared import Split
from src.network.vgg import VGG
from src.separation.centers import ClassSums, SumReceiver
from src.separation.stream import stream


def selection_scores(network: VGG, images: Split) -> dict[nn.Module, Tensor]:
    """Return a score per channel (float32 [channels]) for each convolution and hidden layer of ``network``.

    The channel that is selected first has the score ``channels``, the last one has 1. Activations are those after
    BatchNorm and ReLU, where a layer has them. ``images``: at least two.
    """
    ends, half = _activations(network), len(images) // 2
    sums = SumReceiver(images.labels[:half], network.plan.classes)
    stream(network, images.images[:half], [sums], ends, description="centers of channels")
    distances = DistanceReceiver(sums.sums)
    stream(network, images.images[half:], [distances], ends, description="distances of channels")
    labels = images.labels[half:]
    return {layer: _scores(greedy_order(torch.cat(distances.parts[name]), labels)) for name, layer in ends.items()}


def _activations(network: VGG) -> dict[str, nn.Module]:
    """Return each convolution and hidden layer, by the name of the module that ends it: its ReLU, if it has one."""
    ends: dict[nn.Module, str] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            layer = module
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.ReLU):
            ends[layer] = name
    del ends[network.classifier[-1]]
    return {name: layer for layer, name in ends.items()}


@dataclass
class DistanceReceiver:
    """A receiver of `stream` that keeps the squared distances from the images to the class centers in each channel.

    ``sums``: of other images, by the name of the module. ``parts``: distances of each batch, float64 [n, K, channels],
    by the name of the module; infinite to the center of a class without images.
    """

    sums: Mapping[str, ClassSums]
    parts: dict[str, list[Tensor]] = field(default_factory=dict)

    def __call__(self, name: str, output: Tensor, index: Tensor) -> None:
        """Keep the distances of a batch."""
        sums, counts = self.sums[name].sums, self.sums[name].counts.unsqueeze(1)
        means = sums / counts.clamp(min=1)
        centers = means.view(len(means), -1, output.shape[1]).transpose(1, 2)
        maps = output.reshape(*output.shape[:2], -1).to(means.device).double()
        distances = channel_distances(maps, centers).masked_fill(counts == 0, math.inf)
        self.parts.setdefault(name, []).append(distances)


def channel_distances(maps: Tensor, centers: Tensor) -> Tensor:
    """Return the squared distances [n, classes, channels] between ``maps`` and ``centers`` in each channel.

    ``maps`` [n, channels, places] and ``centers`` [classes, channels, places]. Computed as |x|^2 - 2 x.m + |m|^2.
    """
    products = torch.einsum("ncp,kcp->nkc", maps, centers)
    return maps.square().sum(2).unsqueeze(1) - 2 * products + centers.square().sum(2)


def greedy_order(distances: Tensor, labels: Tensor) -> list[int]:
    """Return all channels in the order of their selection.

    ``distances`` [n, classes, channels] are the squared distances from n images to the centers of the classes in each
    channel; ``labels`` int64 [n]. The next channel is the one with which most images are nearest to the center of
    their own class; of several, the first.
    """
    total, labels = distances.new_zeros(distances.shape[:2]), labels.to(distances.device)
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
