"""SI against scikit-learn and brute force, the linear probe and the effective rank."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn

from src.separation import neighbours
from src.separation.neighbours import layer_neighbours, separation_index
from src.separation.probe import PooledKeeper, linear_probe
from src.separation.rank import effective_rank
from src.separation.stream import stream


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS", 32)
    monkeypatch.setattr(neighbours, "FEATURES", 7)


def cloud(images, dims, seed=0, classes=5):
    """Float32 points whose classes overlap, and their labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, images)
    pattern = np.random.default_rng(9).normal(size=(classes, dims))
    return (generator.normal(size=(images, dims)) + 0.5 * pattern[labels]).astype(np.float32), labels


def by_brute_force(x, y, order, kind, search_x=None, search_y=None):
    others, labels = (x, y) if search_x is None else (search_x, search_y)
    distances = ((x[:, None].astype(np.float64) - others[None]) ** 2).sum(2)
    if search_x is None:
        np.fill_diagonal(distances, np.inf)
    same = labels[np.argsort(distances, 1)[:, :order]] == y[:, None]
    return (same.all(1) if kind == "hard" else same.mean(1)).astype(float)


@pytest.mark.usefixtures("small_blocks")
def test_si_is_the_leave_one_out_accuracy_of_the_nearest_neighbour():
    x, y = cloud(150, 20)
    right = [
        KNeighborsClassifier(1).fit(np.delete(x, i, 0), np.delete(y, i)).predict(x[i : i + 1])[0] == y[i]
        for i in range(150)
    ]
    scores = separation_index(x, y)
    assert scores.credits.tolist() == list(map(float, right))
    assert 0.3 < scores.value < 0.95


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("offset", [0, 3000])
def test_si_of_every_order_is_that_of_brute_force(order, kind, separate, offset):
    (x, y), (others, labels) = cloud(101, 20), cloud(77, 20, seed=1)
    x, others = x + np.float32(offset), others + np.float32(offset)
    search = (others, labels) if separate else (None, None)
    scores = separation_index(x, y, *search, order=order, kind=kind)
    np.testing.assert_allclose(scores.credits, by_brute_force(x, y, order, kind, *search), atol=1e-12)
    assert scores.tie_rate == 0


def test_si_of_noise_is_chance():
    x, y = np.random.default_rng(0).normal(size=(2000, 100)).astype(np.float32), np.arange(2000) % 10
    assert separation_index(x, y).value == pytest.approx(0.1, abs=4 * math.sqrt(0.1 * 0.9 / 2000))


def test_si_does_not_change_with_shift_rotation_and_scale():
    x, y = cloud(300, 12)
    x = x.astype(np.float64)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 12)))[0]
    expected = separation_index(x, y, order=2).credits
    for moved in (x + 1000, x @ rotation, x * 1e-6, x * 1e6):
        assert torch.equal(separation_index(moved, y, order=2).credits, expected)


def test_eight_points_by_hand():
    # neighbours: 0 -> 1; 1 -> 0; 3 -> 1; 7 -> 8; 8 -> 7; 11 -> 13 (2) ; 13 -> 11; 20 -> 13
    x = np.array([[0.0], [1.0], [3.0], [7.0], [8.0], [11.0], [13.0], [20.0]])
    y = np.array([0, 0, 0, 0, 1, 1, 1, 0])
    assert separation_index(x, y).credits.tolist() == [1, 1, 1, 0, 0, 1, 1, 0]
    # the second neighbours: 0 -> 3; 1 -> 3; 3 -> 0; 7 -> 3 or 11, tied; 8 -> 11; 11 -> 8; 13 -> 8; 20 -> 11
    soft = separation_index(x, y, order=2, kind="soft")
    assert soft.credits.tolist() == [1, 1, 1, 0.25, 0.5, 1, 1, 0]
    hard = separation_index(x, y, order=2)
    assert hard.credits.tolist() == [1, 1, 1, 0, 0, 1, 1, 0]
    assert hard.tied.tolist() == [False, False, False, True, False, False, False, False]
    assert soft.by_class().tolist() == [3.25 / 5, 2.5 / 3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constant", [0.0, 1 / 3])
def test_equal_points_give_the_expected_value_of_a_random_choice(dtype, constant):
    x, y = np.full((30, 40), constant, dtype), np.array([0] * 20 + [1] * 10)
    scores = separation_index(x, y)
    np.testing.assert_allclose(scores.credits, [19 / 29] * 20 + [9 / 29] * 10)
    assert scores.tie_rate == 1
    np.testing.assert_allclose(separation_index(x, y, order=3, kind="soft").credits, scores.credits)
    hard = separation_index(x, y, order=2).credits
    np.testing.assert_allclose(hard, [19 / 29 * 18 / 28] * 20 + [9 / 29 * 8 / 28] * 10)


def test_duplicates_tie():
    x = np.repeat(np.random.default_rng(0).normal(size=(20, 6)), 3, 0)
    y = np.tile([0, 0, 1], 20)
    scores = separation_index(x.astype(np.float32), y)
    assert scores.credits.tolist() == [0.5, 0.5, 0.0] * 20
    assert scores.tied.all()


def test_si_of_layers_shares_passes_and_equals_that_of_their_outputs():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    images, y = torch.randn(130, 2, 6, 6), torch.arange(130) % 3
    found = layer_neighbours(network, images, y, ["0", "2", "4"])
    with torch.no_grad():
        for name, module in (("0", network[:1]), ("2", network[:3]), ("4", network)):
            expected = separation_index(module(images), y)
            assert torch.equal(found[name].credits, expected.credits), name
    assert neighbours._groups({"a": 5, "b": 8, "c": 5, "d": 3, "e": 1}) == [["a"], ["b"], ["c", "d"], ["e"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "firm"}, "kind: found 'firm'; wanted hard or soft"),
        ({"order": 6}, "order: found 6; wanted 1 to 5"),
        ({"order": 0}, "order: found 0; wanted 1 to 5"),
        ({"search_x": np.ones((3, 2))}, "search_x and search_y: found one without the other"),
        ({"search_x": np.ones((3, 1)), "search_y": np.arange(3)}, "search_x: found 1 values per image; wanted 2"),
        ({"search_x": np.ones((3, 2)), "search_y": np.arange(2)}, r"search_y: found shape \(2,\); wanted \(3,\)"),
        ({"search_x": np.full((3, 2), np.nan), "search_y": np.arange(3)}, "search_x: found NaN or Inf"),
        ({"x": np.full((6, 2), np.inf)}, "x: found NaN or Inf"),
        ({"y": np.arange(6) - 2}, "y: found labels from -2 to 3; wanted 0 to 3"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        separation_index(**{"x": np.ones((6, 2)), "y": np.arange(6) % 2} | arguments)


def test_the_probe_is_logistic_regression_on_standardized_features():
    (x, y), (other, labels) = cloud(300, 12), cloud(200, 12, seed=1)
    scaler = StandardScaler().fit(x)
    oracle = LogisticRegression(C=0.01, max_iter=1000).fit(scaler.transform(x), y)
    scores = linear_probe(x, y, other, labels)
    assert scores.value == pytest.approx(oracle.score(scaler.transform(other), labels), abs=0.011)
    assert scores.value > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test_x": np.ones((6, 3))}, "test_x: found 3 values per image; wanted 2"),
        ({"test_y": np.arange(6)}, "test_y: found labels from 0 to 5; wanted 0 to 1"),
        ({"y": np.zeros(6, int)}, "y: found class 0 alone; wanted at least two"),
        ({"test_x": np.full((6, 2), np.nan)}, "test_x: found NaN or Inf"),
    ],
)
def test_bad_input_of_the_probe_is_named(arguments, message):
    x, y = np.ones((6, 2)), np.arange(6) % 2
    with pytest.raises(ValueError, match=message):
        linear_probe(**{"x": x, "y": y, "test_x": x, "test_y": y} | arguments)


def test_pooled_features_are_kept_for_the_images_that_are_asked_for():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3))
    images, some = torch.randn(11, 2, 6, 6), torch.tensor([2, 3, 9])
    keeper = PooledKeeper(11, ["0", "3"], some)
    stream(network, images, [keeper], batch_size=4)
    with torch.no_grad():
        torch.testing.assert_close(keeper.features["0"], network[0](images)[some].mean((2, 3)))
        torch.testing.assert_close(keeper.features["3"], network(images)[some])


def test_effective_rank_counts_directions():
    axes = np.concatenate([np.eye(6), -np.eye(6)])
    assert effective_rank(axes) == pytest.approx(6)
    assert effective_rank(axes[:, :1] * np.ones((1, 9)) + 5) == pytest.approx(1)
    assert effective_rank(np.ones((5, 3))) == 0
    # singular values in the proportion 3 : 1, entropy of (3/4, 1/4)
    uneven = np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    assert effective_rank(uneven) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    with pytest.raises(ValueError, match="x: found NaN or Inf"):
        effective_rank(np.full((2, 2), np.nan))
