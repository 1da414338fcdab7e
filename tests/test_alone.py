"""The study of the tools alone, on a small network: what each of them does, and what the table says of it."""

import copy

import numpy as np
import pytest
import torch
from networks import candidate, colors, plan, trained
from test_recipe import recipe

from src.compression.context import Context
from src.compression.technique import FineTuned
from src.core.recipes import DENSE
from src.export.latency import BenchmarkSettings
from src.export.runtime import logits
from src.network.cost import macs
from src.training.recipe import Training
from studies import alone

NETWORK = plan(32, "pool", 32, "pool", head=(16,))
EIGHT_BITS = ("int8", "static", "dynamic")
ONCE = BenchmarkSettings(blocks=1, calls=1, batch_calls=1)
SGD = recipe(**alone.SGD | {"phases": [], "batch_size": 20})


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr(alone, "CALIBRATION_IMAGES", 20)
    context = Context(colors(60), colors(30), 0, candidate(trained(NETWORK)))
    training = Training(**{key: value for key, value in SGD if key != "epochs"})
    return alone.Lab(tmp_path, context, FineTuned(train=training, budget=1), colors(40))


def test_half_of_the_channels_of_every_layer_go():
    network = trained(NETWORK)
    alone.prune_half(network)
    assert [layer.out_channels for layer in network.convolutions] == [16, 16]
    assert [layer.out_features for layer in network.linear_layers] == [8, 10]


def test_the_channels_of_least_norm_go_first_until_the_macs_are_those_of_half():
    network = trained(NETWORK)
    first, norm, second = network.features[0], network.features[1], network.features[4]
    with torch.no_grad():
        for tensor in (first.weight[:4], norm.weight[:4], second.weight[:, :4]):
            tensor *= 1e-3
    smallest, half = first.weight[:4].abs().max(), copy.deepcopy(network)
    alone.prune_half(half)
    alone.prune_globally(network)
    assert macs(network) <= macs(half)
    assert network.convolutions[0].weight.abs().amax((1, 2, 3)).min() > smallest


def test_the_table_has_a_row_per_file(lab):
    items = alone.items(lab)
    assert next(iter(items)) == DENSE
    rows = [row for name in (DENSE, *EIGHT_BITS, "half") for row in items[name]()]
    table = {row["name"]: row for row in alone.compared(rows, lab, ONCE)}
    assert [*table] == [DENSE, *EIGHT_BITS, "half", "half_tuned"]
    assert "predicted" not in table[DENSE]
    assert (table[DENSE]["points"], table[DENSE]["ms_ratio"]) == (0, 1)
    assert table["half"]["macs"] == table["half_tuned"]["macs"] < table[DENSE]["macs"] == table["static"]["macs"]
    assert table["half_tuned"]["done"].startswith("half of the channels of every layer, fine-tuned 3 epochs: ")
    assert [bool(table[name]["version"]) for name in ("int8", "static", "half")] == [False, True, True]
    for row in table.values():
        assert row["points"] == pytest.approx(100 * (row["test_accuracy"] - table[DENSE]["test_accuracy"]))
    expected, *others = (logits(lab.path(name), lab.test.images.numpy()) for name in (DENSE, *EIGHT_BITS))
    for name, other in zip(EIGHT_BITS, others, strict=True):
        assert table[name]["bytes"] < table[DENSE]["bytes"]
        assert np.abs(other - expected).max() < 0.1 * np.abs(expected).max()
