"""The study of the tools alone, on a small network: what each of them does, and what the table says of it."""

import copy

import numpy as np
import pytest
import torch
from networks import colors, plan, trained

from src.core.recipes import DENSE
from src.export.latency import BenchmarkSettings
from src.export.runtime import logits
from src.network.cost import macs
from src.training.augment import Crops
from studies import alone

NETWORK = plan(32, "pool", 32, "pool", head=(16,))
EIGHT_BITS = ("int8", "static", "dynamic")
ONCE = BenchmarkSettings(blocks=1, calls=1, batch_calls=1)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setattr(alone, "CALIBRATION_IMAGES", 20)
    monkeypatch.setattr(alone, "EPOCHS", 1)
    return alone.Lab(tmp_path, trained(NETWORK), colors(60), colors(30), colors(40))


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


def test_an_epoch_of_plain_training_lowers_the_loss():
    network, images = trained(NETWORK), colors(60)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    crops = Crops(images.images, padding=4)

    def loss():
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(network.eval()(images.images / 255), images.labels))

    alone.train_epoch(network, optimizer, crops, images.labels)  # BatchNorm learns what these images are like
    before = loss()
    for _ in range(10):
        alone.train_epoch(network, optimizer, crops, images.labels)
    assert loss() < before


def test_the_table_has_a_row_for_each_file(lab):
    found = alone.items(lab)
    assert next(iter(found)) == DENSE
    rows = [row for name in (DENSE, *EIGHT_BITS, "half") for row in found[name]()]
    table = {row["name"]: row for row in alone.compared(rows, lab, ONCE)}
    assert [*table] == [DENSE, *EIGHT_BITS, "half", "half_1"]
    assert "predicted" not in table[DENSE]
    assert (table[DENSE]["points"], table[DENSE]["ms_ratio"]) == (0, 1)
    assert table["half"]["macs"] == table["half_1"]["macs"] < table[DENSE]["macs"] == table["static"]["macs"]
    assert table["half_1"]["minutes"] > table["half"]["minutes"]
    assert [bool(table[name]["version"]) for name in ("int8", "static", "half")] == [False, True, True]
    for row in table.values():
        assert row["points"] == pytest.approx(100 * (row["test_accuracy"] - table[DENSE]["test_accuracy"]))
    expected, *others = (logits(lab.path(name), lab.test.images.numpy()) for name in (DENSE, *EIGHT_BITS))
    for name, other in zip(EIGHT_BITS, others, strict=True):
        assert table[name]["bytes"] < table[DENSE]["bytes"]
        assert np.abs(other - expected).max() < 0.1 * np.abs(expected).max()
