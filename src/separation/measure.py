"""All indices of a whole network, in as few passes over the images as they need."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from src.data.prepared import Split, SplitName
from src.network.vgg import VGG
from src.separation.centers import CenterReceiver, Centers, SumReceiver
from src.separation.layers import Layer, block_ends, layers
from src.separation.neighbours import layer_neighbours
from src.separation.probe import PooledKeeper, linear_probe
from src.separation.rank import dead_share, effective_rank
from src.separation.scores import Scores
from src.separation.stream import stream

ByModule = Mapping[str, Scores]  # by the name of the module


@dataclass(frozen=True)
class Samples:
    """The places of the images on which some of the indices are measured, int64.

    ``in_sample``: those of the in-sample protocol, for train and test; ``probed``: training images on which the probes
    are fitted and the effective rank is measured; ``compared``: training images on which SI is measured.
    """

    in_sample: Mapping[SplitName, Tensor]
    probed: Tensor
    compared: Tensor


@dataclass(frozen=True)
class Separation:
    """What was measured of a network.

    ``layers``: its modules in order. ``csi``: by protocol, then by module: ``train`` (leave-one-out), ``validation``
    and ``test`` (held-out, with centers from train), ``validation_pooled`` (the same, averaged over space); on the
    images of the in-sample protocol, with centers of their own, ``SPLIT_in_sample`` and ``SPLIT_same`` (leave-one-out),
    and with those of all training images ``SPLIT_many`` (train: leave-one-out).
    ``dead``: the share of dead channels by module. By the last module of each block: ``probes`` (on validation),
    ``ranks`` and ``neighbours`` (both on train).
    """

    layers: list[Layer]
    csi: Mapping[str, ByModule]
    dead: Mapping[str, float]
    probes: ByModule
    ranks: Mapping[str, float]
    neighbours: ByModule


def measure(model: VGG, splits: Mapping[SplitName, Split], samples: Samples) -> Separation:
    """Return all indices of ``model`` on ``splits``: train, validation and test."""
    train, validation = splits["train"], splits["validation"]
    ends = list(block_ends(model.plan).values())
    seen, unseen = PooledKeeper(len(train), ends, samples.probed), PooledKeeper(len(validation), ends)
    modules = layers(model)
    csi, dead = _measure_csi(model, modules, splits, samples.in_sample, {"train": seen, "validation": unseen})
    fitted, scored = train.labels[samples.probed], validation.labels
    compared = train[samples.compared]
    return Separation(
        layers=modules,
        csi=csi,
        dead=dead,
        probes={end: linear_probe(seen.features[end], fitted, unseen.features[end], scored) for end in ends},
        ranks={end: effective_rank(seen.features[end]) for end in ends},
        neighbours=layer_neighbours(model, compared.images, compared.labels, ends),
    )


def _measure_csi(
    model: VGG,
    modules: list[Layer],
    splits: Mapping[SplitName, Split],
    in_sample: Mapping[SplitName, Tensor],
    keepers: Mapping[SplitName, PooledKeeper],
) -> tuple[dict[str, ByModule], dict[str, float]]:
    """Return the fields ``csi`` and ``dead`` of `Separation`; ``keepers`` keep features of a split in the same pass."""
    centers = _centers(model, splits, in_sample)
    csi: dict[str, ByModule] = {}
    for name, split in splits.items():
        receivers = _receivers(name, split.labels, centers, in_sample.get(name))
        others = [keepers[name]] if name in keepers else []
        stream(model, split.images, [*receivers.values(), *others], description=f"distances, {name}")
        csi |= {column: receiver.scores() for column, receiver in receivers.items()}
        if name in in_sample:
            csi[f"{name}_many"] = {layer: _part(scores, in_sample[name]) for layer, scores in csi[name].items()}
    dead = {layer.name: dead_share(centers["train"][layer.name].means, layer.channels) for layer in modules}
    return csi, dead


def _part(scores: Scores, places: Tensor) -> Scores:
    return Scores(scores.credits[places], scores.tied[places], scores.labels[places], scores.classes)


def _centers(
    model: VGG, splits: Mapping[SplitName, Split], in_sample: Mapping[SplitName, Tensor]
) -> dict[str, Mapping[str, Centers]]:
    """Return the centers by module: ``train``, and ``train_in_sample`` and ``test_in_sample`` of those images alone."""
    train, few, classes = splits["train"], splits["test"][in_sample["test"]], model.plan.classes
    sums = {
        "train": SumReceiver(train.labels, classes),
        "train_in_sample": SumReceiver(train.labels, classes, in_sample["train"]),
        "test_in_sample": SumReceiver(few.labels, classes),
    }
    stream(model, train.images, [sums["train"], sums["train_in_sample"]], description="centers")
    stream(model, few.images, [sums["test_in_sample"]], description="centers of a few")
    return {name: receiver.centers() for name, receiver in sums.items()}


def _receivers(
    split: str, labels: Tensor, centers: Mapping[str, Mapping[str, Centers]], few: Tensor | None
) -> dict[str, CenterReceiver]:
    """Return the receivers of one split, by protocol; ``few``: the places of its images of the in-sample protocol."""
    receivers = {split: CenterReceiver(labels, centers["train"], leave_one_out=split == "train")}
    if split == "validation":
        receivers["validation_pooled"] = CenterReceiver(labels, centers["train"], pooled=True)
    if few is not None:
        own = centers[f"{split}_in_sample"]
        receivers[f"{split}_in_sample"] = CenterReceiver(labels, own, among=few)
        receivers[f"{split}_same"] = CenterReceiver(labels, own, leave_one_out=True, among=few)
    return receivers
