"""The tables of a network's separation: by layer, by layer and class, by position, and the headline."""

from collections.abc import Iterable, Sequence
from typing import Any

from src.network.cost import macs
from src.network.vgg import VGG
from src.separation.layers import block_ends
from src.separation.measure import ByModule, Separation
from src.separation.scores import Scores, first_within, paired_error

COLUMNS = ("train", "validation", "test", "train_in_sample", "test_in_sample")  # by layer, before the tie rate
MORE_COLUMNS = ("validation_pooled", "train_same", "test_same", "train_many", "test_many")  # after it
Row = dict[str, Any]


def layer_rows(measured: Separation) -> list[Row]:
    """Return a row per module: what it is, its share of dead channels, and its CSI by every protocol."""
    return [
        {
            "index": index,
            "layer": layer.name,
            "kind": layer.kind,
            "block": layer.block,
            "channels": layer.channels,
            "dims": layer.dims,
            "dead_channels": measured.dead[layer.name],
            **{column: measured.csi[column][layer.name].value for column in COLUMNS},
            "tie_rate": measured.csi["train"][layer.name].tie_rate,
            **{column: measured.csi[column][layer.name].value for column in MORE_COLUMNS},
        }
        for index, layer in enumerate(measured.layers)
    ]


def class_rows(measured: Separation, classes: Sequence[str]) -> list[Row]:
    """Return a row per module: its CSI on test for each of ``classes``, the names in the order of the labels."""
    return [
        {"index": index, "layer": layer.name}
        | dict(zip(classes, measured.csi["test"][layer.name].by_class().tolist(), strict=True))
        for index, layer in enumerate(measured.layers)
    ]


def position_rows(measured: Separation, model: VGG) -> list[Row]:
    """Return a row per position, the end of a block of ``model``: what each index says there.

    ``csi_gap_error`` and ``probe_gap_error``: paired standard error of the highest value minus this one, on validation.
    """
    ends = block_ends(model.plan)
    channels = {layer.name: layer.channels for layer in measured.layers}
    csi, probes = measured.csi["validation"], measured.probes
    best_csi, best_probe = _best(csi, ends.values()), _best(probes, ends.values())
    return [
        {
            "position": position,
            "block": block,
            "layer": name,
            "channels": channels[name],
            "macs": macs(model.features[:modules], model.plan.side),
            "csi": csi[name].value,
            "csi_pooled": measured.csi["validation_pooled"][name].value,
            "csi_gap_error": paired_error(best_csi, csi[name]),
            "probe": probes[name].value,
            "probe_gap_error": paired_error(best_probe, probes[name]),
            "si": measured.neighbours[name].value,
            "effective_rank": measured.ranks[name],
            "in_sample": measured.csi["train_in_sample"][name].value,
        }
        for position, ((block, name), modules) in enumerate(zip(ends.items(), model.plan.module_ends(), strict=True))
    ]


def _best(scores: ByModule, names: Iterable[str]) -> Scores:
    return max((scores[name] for name in names), key=lambda score: score.value)


def headline(measured: Separation, epsilon: float) -> Row:
    """Return the layer where CSI on validation stops rising, its CSI, and the CSI of the last layer.

    The layer is the first at most ``epsilon`` below the highest CSI of all layers, as `first_within` has it.
    """
    values = [measured.csi["validation"][layer.name].value for layer in measured.layers]
    plateau = first_within(values, epsilon)
    return {
        "plateau_layer": measured.layers[plateau].name,
        "plateau_validation": values[plateau],
        "last_validation": values[-1],
    }
