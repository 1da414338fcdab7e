"""What is measured of one network at each position: what a cut there is worth, and what each score says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from src.data.prepared import Split
from src.network.cost import macs
from src.network.vgg import VGG
from src.separation.centers import CenterReceiver, Centers, SumReceiver, center_separation, class_sums
from src.separation.layers import block_ends
from src.separation.neighbours import layer_neighbours
from src.separation.probe import PooledKeeper, linear_probe
from src.separation.sampling import drawn
from src.separation.scores import Scores
from src.separation.stream import stream
from studies.items import Row

SPLITS = ("train", "validation", "test")
SEED = 0  # of the choice of images
ByLayer = Mapping[str, Scores]
Features = Mapping[str, Tensor]  # float32 [N, C] by split


@dataclass(frozen=True)
class Counts:
    """Numbers of training images: for SI, for the probes, and per class in the centers of question 2."""

    neighbours: int = 5000
    probe: int = 10_000
    per_class: tuple[int, ...] = (50, 100, 300, 1000, 4500)


def positions(name: str, network: VGG, splits: Mapping[str, Split], counts: Counts) -> list[Row]:
    """Return a row per position of ``network``: the test accuracy of a cut there, and what each score says.

    ``splits`` are train, validation and test, with true labels.
    """
    ends = list(block_ends(network.plan).values())
    scores, features = _flattened(network, splits, ends, counts.per_class)
    scores |= {"csi_pooled": {}, "csi_unit": {}, "probe": {}, "test_accuracy": {}}
    for end in ends:
        pooled = {split: keeper.features[end] for split, keeper in features.items()}
        scores["csi_pooled"][end] = _held_out(pooled, splits)
        scores["csi_unit"][end] = _held_out({split: F.normalize(points) for split, points in pooled.items()}, splits)
        scores["probe"][end] = _classified(pooled, splits, "validation", counts.probe)
        scores["test_accuracy"][end] = _classified(pooled, splits, "test", len(splits["train"]))
    sample = splits["train"][drawn(splits["train"].labels, counts.neighbours, SEED)]
    scores["si"] = layer_neighbours(network, sample.images, sample.labels, ends)
    return _rows(name, network, scores)


def _flattened(
    network: VGG, splits: Mapping[str, Split], ends: Sequence[str], per_class: Sequence[int]
) -> tuple[dict[str, ByLayer], dict[str, PooledKeeper]]:
    """Return CSI of flattened maps by column, and the pooled features, in two passes over train and one over others.

    Columns: ``csi``, held-out on validation; for each n of ``per_class`` ``in_sample_n``, ``own_n`` (leave-one-out) and
    ``many_n`` (leave-one-out with the centers of the largest n), all three on the images that make the centers of n.
    """
    train, classes = splits["train"], network.plan.classes
    chosen = {n: drawn(train.labels, n * classes, SEED) for n in per_class}
    sums = {n: SumReceiver(train.labels, classes, among) for n, among in chosen.items()}
    keepers = {split: PooledKeeper(len(splits[split]), ends) for split in SPLITS}
    stream(network, train.images, [*sums.values(), keepers["train"]], ends, description="centers")
    centers = {n: receiver.centers() for n, receiver in sums.items()}
    receivers = _few(train, chosen, centers)
    stream(network, train.images, list(receivers.values()), ends, description="train")
    receivers["csi"] = CenterReceiver(splits["validation"].labels, centers[per_class[-1]])
    unseen = [receivers["csi"], keepers["validation"]]
    stream(network, splits["validation"].images, unseen, ends, description="validation")
    stream(network, splits["test"].images, [keepers["test"]], ends, description="test")
    return {column: receiver.scores() for column, receiver in receivers.items()}, keepers


def _few(
    train: Split, chosen: Mapping[int, Tensor], centers: Mapping[int, Mapping[str, Centers]]
) -> dict[str, CenterReceiver]:
    most = max(chosen)
    receivers: dict[str, CenterReceiver] = {}
    for n, among in chosen.items():
        receivers[f"in_sample_{n}"] = CenterReceiver(train.labels, centers[n], among=among)
        receivers[f"own_{n}"] = CenterReceiver(train.labels, centers[n], leave_one_out=True, among=among)
        receivers[f"many_{n}"] = CenterReceiver(train.labels, centers[most], leave_one_out=True, among=among)
    return receivers


def _held_out(features: Features, splits: Mapping[str, Split]) -> Scores:
    """Return the CSI of the validation images against centers from train."""
    centers = class_sums(features["train"], splits["train"].labels).centers()
    return center_separation(features["validation"], splits["validation"].labels, centers)


def _classified(features: Features, splits: Mapping[str, Split], scored: str, count: int) -> Scores:
    """Return the accuracy on the split ``scored`` of a linear classifier, fitted on ``count`` training images."""
    labels = splits["train"].labels
    sample = drawn(labels, count, SEED)
    return linear_probe(features["train"][sample], labels[sample], features[scored], splits[scored].labels)


def _rows(name: str, network: VGG, measured: Mapping[str, ByLayer]) -> list[Row]:
    ends = zip(block_ends(network.plan).items(), network.plan.module_ends(), strict=True)
    return [
        {
            "network": name,
            "position": position,
            "block": block,
            "macs": macs(network.features[:modules], network.plan.side),
        }
        | {column: scores[end].value for column, scores in measured.items()}
        for position, ((block, end), modules) in enumerate(ends)
    ]
