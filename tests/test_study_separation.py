"""The study of separation: its networks, its rule and its answers, by hand and on small networks."""

import pytest
import torch
from networks import INFO, colors, plan, trained
from sklearn.neighbors import NearestCentroid
from test_recipe import recipe

from src.training.recipe import Phase
from studies import lengths
from studies.separation import answers, networks
from studies.separation.__main__ import setup_of
from studies.separation.measures import Counts, positions
from studies.separation.pictures import bias_by_position, cuts_by_score

SMALL = plan(8, "pool", 16, "pool")
COUNTS = Counts(neighbours=40, probe=60, per_class=(2, 6))
EPSILON = 0.01


def table(name, worth, **scores):
    """Rows of a network, by position."""
    return [
        {"network": name, "position": place, "block": f"b{place}", "macs": 10 * (place + 1), "test_accuracy": value}
        | {score: values[place] for score, values in scores.items()}
        for place, value in enumerate(worth)
    ]


@pytest.fixture
def one_score(monkeypatch):
    monkeypatch.setattr(answers, "SCORES", ("csi",))


def test_the_rule_names_the_first_within_epsilon():
    rows = table("a", [0.5, 0.895, 0.9, 0.8], csi=[0.1, 0.2, 0.9, 0.89])
    assert answers.named(rows, "test_accuracy", EPSILON) == 1
    assert answers.named(rows, "csi", EPSILON) == 2


def test_prices_by_hand(one_score):
    rows = {
        "a": table("a", [0.5, 0.7, 0.6, 0.9], csi=[0.1, 0.2, 0.9, 0.3]),
        "b": table("b", [0.5, 0.9, 0.6, 0.7], csi=[0.1, 0.9, 0.2, 0.3]),
        "odd": table("odd", [0.9, 0.1, 0.1, 0.1], csi=[0.9, 0.1, 0.1, 0.1]),
    }
    found = {(row["network"], row["score"]): row for row in answers.cuts(rows, ["a", "b"], EPSILON)}
    csi = found["a", "csi"]
    assert (csi["position"], csi["macs_share"], csi["steps_away"]) == (2, 0.75, -1)
    assert (csi["loss"], csi["regret"]) == (pytest.approx(30), pytest.approx(10))  # 0.9 is the best, 0.7 as cheap
    assert found["a", "right"]["loss"] == found["a", "depth"]["loss"] == 0
    assert found["a", "same_as_others"]["position"] == 1  # the right cut of b
    assert found["b", "same_as_others"]["position"] == 3
    assert found["odd", "same_as_others"]["position"] == 2  # the middle of 1 and 3
    assert csi["tau"] == pytest.approx(1 / 3)  # of six pairs four in order
    tau_depth, worth_depth = 2 / 3, 2 / 3
    assert csi["partial_tau"] == pytest.approx((1 / 3 - tau_depth * worth_depth) / (1 - worth_depth**2))


def test_means_and_paired_differences_by_hand():
    rows = [
        {"network": name, "score": score, "loss": loss}
        for score, losses in {"csi": (1.0, 2.0, 3.0), "probe": (0.0, 1.5, 2.0)}.items()
        for name, loss in zip("abc", losses, strict=True)
    ]
    mean = answers.means(rows, ["score"], ["loss"])[0]
    assert (mean["score"], mean["networks"], mean["loss"]) == ("csi", 3, 2.0)
    assert mean["loss_high"] - 2 == pytest.approx(4.302653 / 3**0.5)  # t with two degrees of freedom, deviation 1
    (difference,) = answers.against(rows, "csi", "loss")
    assert (difference["score"], difference["difference"]) == ("probe", pytest.approx(-2.5 / 3))


def test_bias_and_flips_by_hand():
    rows = table("a", [0.1, 0.2, 0.3], in_sample_2=[0.5, 0.9, 0.8], own_2=[0.3, 0.4, 0.6], many_2=[0.35, 0.5, 0.7])
    found = answers.bias({"a": rows}, [2])
    assert [row["inclusion"] for row in found] == pytest.approx([20, 50, 20])
    assert [row["few"] for row in found] == pytest.approx([-5, -10, -10])
    (flip,) = answers.flips({"a": rows}, [2], EPSILON)
    assert (flip["sign_flips"], flip["cut_in_sample"], flip["cut_many"]) == (1, "b1", "b2")


def test_shuffled_labels_are_exchanged_among_the_share_alone():
    split = colors(1000)
    shuffled = networks.with_shuffled_labels(split, 0.2, seed=0)
    assert torch.equal(shuffled.images, split.images)
    assert torch.equal(shuffled.labels.bincount(), split.labels.bincount())
    changed = int((shuffled.labels != split.labels).sum())
    assert 150 < changed <= 200
    assert torch.equal(networks.with_shuffled_labels(split, 0.2, seed=0).labels, shuffled.labels)


def test_a_network_is_made_once_and_the_same_by_the_same_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = recipe(epochs=1, phases=[{"side": 0.5, "epochs": 1}], batch_size=20, optimizer="muon", whiten=True)
    setup = networks.Setup(SMALL, training, colors(60), colors(20), INFO, tmp_path / "made")
    weights = {}
    for name in ("seed-0", "seed-1", "shuffled", "random"):
        network = networks.network(setup, name)
        weights[name] = network.convolutions[1].weight
    seen = network.features[0](network.normalized(setup.train.images.float() / 255))  # by the BatchNorm of random
    torch.testing.assert_close(network.features[1].running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert len({tuple(weight.flatten().tolist()) for weight in weights.values()}) == 4
    written = setup.file("seed-0").read_bytes()
    setup.file("seed-1").replace(setup.file("seed-0"))
    assert torch.equal(networks.network(setup, "seed-0").convolutions[1].weight, weights["seed-1"])  # read, not made
    setup.file("seed-0").unlink()
    networks.network(setup, "seed-0")
    assert setup.file("seed-0").read_bytes() == written


def test_positions_of_a_small_network_and_their_pictures(monkeypatch):
    monkeypatch.setattr(answers, "SCORES", ("csi", "csi_pooled", "csi_unit", "probe", "si", "in_sample_2"))
    splits = {"train": colors(60), "validation": colors(40), "test": colors(50)}
    rows = {}
    for name in ("seed-0", "seed-1", "random"):
        network = trained(SMALL)
        rows[name] = positions(name, network, splits, COUNTS)
    first = rows["seed-0"]
    assert [row["block"] for row in first] == ["conv0", "pool1", "conv2", "pool3"]
    for row in first:
        assert row["in_sample_2"] >= row["own_2"]
        assert row["own_6"] == row["many_6"]
        assert 0 <= row["csi"] <= 1
    random = rows["random"][-1]
    pooled = {name: lengths.pooled(network, split.images) for name, split in splits.items()}
    oracle = NearestCentroid().fit(pooled["train"], splits["train"].labels)
    assert random["csi_pooled"] == pytest.approx(oracle.score(pooled["validation"], splits["validation"].labels))
    cuts = answers.cuts(rows, ["seed-0", "seed-1"], EPSILON)
    assert len(cuts) == 3 * (6 + 3)
    means = answers.means(answers.bias(rows, (2, 6)), ["images_a_class", "position", "block"], ["inclusion", "few"])
    assert len(bias_by_position(means).axes) == 2
    left, right = cuts_by_score([row for each in rows.values() for row in each], cuts).axes
    assert len(left.lines) == 3
    assert len(right.get_yticklabels()) == 8  # without the right cut


def test_the_study_trains_the_recipe_of_params(tmp_path, monkeypatch):
    from src.core.params import PARAMS, read_yaml

    section = read_yaml(PARAMS)["train"]
    monkeypatch.setattr("studies.separation.__main__.load_info", lambda: INFO)
    monkeypatch.setattr("studies.separation.__main__.PREPARED", tmp_path)
    for name in ("train", "validation"):
        (tmp_path / f"{name}.npz").write_text("")
    splits = {name: colors(20) for name in ("train", "validation", "test")}
    setup = setup_of(section, splits)
    assert setup.recipe.phases == [Phase(**phase) for phase in section["recipes"]["fast"]["phases"]]
    assert setup.plan.widths[0] == 32
