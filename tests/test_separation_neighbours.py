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


def by_brute_force(x, y):
    distances = ((x[:, None].astype(np.float64) - x[None]) ** 2).sum(2)
    np.fill_diagonal(distances, np.inf)
    return (y[distances.argmin(1)] == y).astype(float)


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
@pytest.mark.parametrize("images", [2, 3, 6, 7, 101])
@pytest.mark.parametrize("offset", [0, 3000])
def test_si_is_that_of_brute_force(images, offset):
    x, y = cloud(images, 20)
    x = x + np.float32(offset)
    scores = separation_index(x, y)
    assert scores.credits.tolist() == by_brute_force(x, y).tolist()
    assert scores.tie_rate == 0


def test_si_of_noise_is_chance():
    x, y = np.random.default_rng(0).normal(size=(2000, 100)).astype(np.float32), np.arange(2000) % 10
    assert separation_index(x, y).value == pytest.approx(0.1, abs=4 * math.sqrt(0.1 * 0.9 / 2000))


def test_si_does_not_change_with_shift_rotation_and_scale():
    x, y = cloud(300, 12)
    x = x.astype(np.float64)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 12)))[0]
    expected = separation_index(x, y).credits
    for moved in (x + 1000, x @ rotation, x * 1e-6, x * 1e6):
        assert torch.equal(separation_index(moved, y).credits, expected)


def test_eight_points_by_hand():
    # neighbours: 0 -> 1; 1 -> 0; 3 -> 1; 7 -> 8; 8 -> 7; 10.5 -> 8 or 13, tied; 13 -> 10.5; 20 -> 13
    x = np.array([[0.0], [1.0], [3.0], [7.0], [8.0], [10.5], [13.0], [20.0]])
    y = np.array([0, 0, 0, 0, 1, 1, 0, 0])
    scores = separation_index(x, y)
    assert scores.credits.tolist() == [1, 1, 1, 0, 0, 0.5, 0, 1]
    assert scores.tied.tolist() == [False] * 5 + [True] + [False] * 2
    assert scores.by_class().tolist() == [4 / 6, 0.5 / 2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constant", [0.0, 1 / 3])
def test_equal_points_give_the_expected_value_of_a_random_choice(dtype, constant):
    x, y = np.full((30, 40), constant, dtype), np.array([0] * 20 + [1] * 10)
    scores = separation_index(x, y)
    np.testing.assert_allclose(scores.credits, [19 / 29] * 20 + [9 / 29] * 10)
    assert scores.tie_rate == 1


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
        ({"x": np.ones((1, 2)), "y": np.arange(1)}, "x: found a single image; wanted at least two"),
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
