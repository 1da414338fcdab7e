"""Measure how well every layer of the trained network separates the classes: CSI, neighbours, probes, rank."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from src.core.device import pick_device, seed_everything
from src.core.files import write_csv, write_json
from src.core.params import Shared, load_params
from src.core.recipes import ROOT
from src.core.stage import run_stage
from src.data.prepared import CLASSES, SPLITS, Split, SplitName, load_split
from src.network.cost import macs
from src.network.record import network_path
from src.network.vgg import VGG, load
from src.separation.centers import CenterReceiver, Centers, SumReceiver
from src.separation.layers import Layer, block_ends, layers
from src.separation.neighbours import layer_neighbours
from src.separation.probe import PooledKeeper, linear_probe
from src.separation.rank import dead_share, effective_rank
from src.separation.sampling import CsiSettings, balanced, drawn
from src.separation.scores import Scores, paired_error, plateau
from src.separation.stream import stream

METRICS = Path("metrics/csi.json")
TABLE = Path("plots/csi.csv")
POSITIONS = Path("plots/positions.csv")
BY_CLASS = Path("plots/csi_by_class.csv")
COLUMNS = ("train", "validation", "test", "train_in_sample", "test_in_sample")  # of TABLE, before the tie rate
MORE_COLUMNS = ("validation_pooled", "train_same", "test_same")  # after it
Row = dict[str, Any]
Splits = Mapping[SplitName, Split]
ByLayer = Mapping[str, Scores]


class Params(Shared):
    """What this stage reads from params.yaml."""

    csi: CsiSettings


def main() -> None:
    """Write a table of all layers, one of the positions where the network can be cut, and the headline numbers."""
    params = load_params("csi", Params)
    seed_everything(params.seed)
    splits = {name: load_split(name) for name in SPLITS}
    model = load(network_path(ROOT), pick_device(params.device))
    few = few_of(splits, params)
    sample = drawn(splits["train"], params.csi.probe_images, params.seed)
    ends = block_ends(model.plan).values()
    seen = PooledKeeper(len(splits["train"]), ends, sample)
    unseen = PooledKeeper(len(splits["validation"]), ends)
    found, centers = layers(model), centers_of(model, splits, few)
    scores = scores_of(model, splits, few, centers, {"train": seen, "validation": unseen})
    write_csv(TABLE, [_row(index, layer, centers["train"], scores) for index, layer in enumerate(found)])
    write_csv(BY_CLASS, [_class_row(index, layer, scores["test"]) for index, layer in enumerate(found)])
    write_json(METRICS, headline([layer.layer for layer in found], scores["validation"]))
    centers.clear()
    labels = splits["train"].labels[sample], splits["validation"].labels
    probes = {name: linear_probe(seen.features[name], labels[0], unseen.features[name], labels[1]) for name in ends}
    ranks = {name: effective_rank(features) for name, features in seen.features.items()}
    channels = {layer.layer: layer.channels for layer in found}
    neighbours = neighbours_of(model, splits["train"], params.csi.neighbour_images, params.seed)
    write_csv(POSITIONS, position_rows(model, channels, scores, probes, ranks, neighbours))


def few_of(splits: Splits, params: Params) -> dict[str, Tensor]:
    """Return the places of the few images of the in-sample protocols of train and test."""
    return {
        "train": balanced(splits["train"], "train", params.csi.in_sample_train, params.seed),
        "test": balanced(splits["test"], "test", params.csi.in_sample_test, params.seed),
    }


def centers_of(model: VGG, splits: Splits, few: Mapping[str, Tensor]) -> dict[str, dict[str, Centers]]:
    """Return the centers from train, and those of the few images of each in-sample protocol, by layer."""
    classes = len(CLASSES)
    train = SumReceiver(splits["train"].labels, classes)
    few_train = SumReceiver(splits["train"].labels, classes, few["train"])
    few_test = SumReceiver(splits["test"].labels[few["test"]], classes)
    stream(model, splits["train"].images, [train, few_train], description="centers")
    stream(model, splits["test"].images[few["test"]], [few_test], description="centers of a few")
    return {"train": train.centers(), "few_train": few_train.centers(), "few_test": few_test.centers()}


def scores_of(
    model: VGG,
    splits: Splits,
    few: Mapping[str, Tensor],
    centers: Mapping[str, Mapping[str, Centers]],
    keepers: Mapping[str, PooledKeeper],
) -> dict[str, ByLayer]:
    """Return the scores of each of `COLUMNS` and `MORE_COLUMNS`, in one pass over each split.

    ``keepers`` keep pooled features of a split in the same pass.
    """
    receivers: dict[str, dict[str, CenterReceiver]] = {}
    for name in SPLITS:
        labels = splits[name].labels
        receivers[name] = {name: CenterReceiver(labels, centers["train"], leave_one_out=name == "train")}
        if name in few:
            own = centers[f"few_{name}"]
            receivers[name][f"{name}_in_sample"] = CenterReceiver(labels, own, among=few[name])
            receivers[name][f"{name}_same"] = CenterReceiver(labels, own, leave_one_out=True, among=few[name])
    pooled = CenterReceiver(splits["validation"].labels, centers["train"], pooled=True)
    receivers["validation"]["validation_pooled"] = pooled
    for name in SPLITS:
        others = [keepers[name]] if name in keepers else []
        stream(model, splits[name].images, [*receivers[name].values(), *others], description=f"distances, {name}")
    return {column: receiver.scores() for group in receivers.values() for column, receiver in group.items()}


def neighbours_of(model: VGG, train: Split, count: int, seed: int) -> ByLayer:
    """Return the SI at the end of each block, on ``count`` images of ``train`` that are drawn by ``seed``."""
    sample = train[drawn(train, count, seed)]
    return layer_neighbours(model, sample.images, sample.labels, list(block_ends(model.plan).values()))


def _row(index: int, layer: Layer, centers: Mapping[str, Centers], scores: Mapping[str, ByLayer]) -> Row:
    return {
        "index": index,
        **asdict(layer),
        "dead_channels": dead_share(centers[layer.layer].means, layer.channels),
        **{column: scores[column][layer.layer].value for column in COLUMNS},
        "tie_rate": scores["train"][layer.layer].tie_rate,
        **{column: scores[column][layer.layer].value for column in MORE_COLUMNS},
    }


def _class_row(index: int, layer: Layer, scores: ByLayer) -> Row:
    by_class = scores[layer.layer].by_class().tolist()
    return {"index": index, "layer": layer.layer, **dict(zip(CLASSES, by_class, strict=True))}


def position_rows(
    model: VGG,
    channels: Mapping[str, int],
    scores: Mapping[str, ByLayer],
    probes: ByLayer,
    ranks: Mapping[str, float],
    neighbours: ByLayer,
) -> list[Row]:
    """Return a row for each block of the network's plan: what each index says at its last module.

    ``csi_gap_error`` and ``probe_gap_error``: paired standard error of the highest value minus this one, on validation.
    """
    csi = scores["validation"]
    ends = block_ends(model.plan)
    best_csi, best_probe = _best([csi[name] for name in ends.values()]), _best(list(probes.values()))
    return [
        {
            "position": position,
            "block": block,
            "layer": name,
            "channels": channels[name],
            "macs": macs(model.features[:end]),
            "csi": csi[name].value,
            "csi_pooled": scores["validation_pooled"][name].value,
            "csi_gap_error": paired_error(best_csi, csi[name]),
            "probe": probes[name].value,
            "probe_gap_error": paired_error(best_probe, probes[name]),
            "si": neighbours[name].value,
            "effective_rank": ranks[name],
            "in_sample": scores["train_in_sample"][name].value,
        }
        for position, ((block, name), end) in enumerate(zip(ends.items(), model.plan.module_ends(), strict=True))
    ]


def _best(scores: Sequence[Scores]) -> Scores:
    return max(scores, key=lambda each: each.value)


def headline(names: Sequence[str], scores: ByLayer) -> Row:
    """Return the layer where CSI on validation stops rising, the CSI there, and the CSI of the last layer.

    ``names`` are those of the layers in order, ``scores`` their scores on validation.
    """
    values = [scores[name].value for name in names]
    rises_to = plateau(values, len(scores[names[0]].labels))
    return {
        "plateau_layer": names[rises_to],
        "plateau_validation": values[rises_to],
        "last_validation": values[-1],
    }


if __name__ == "__main__":
    run_stage(main)
