"""The separation index (CSI) against loops, against scikit-learn's NearestCentroid, and on points made by hand."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.neighbors import NearestCentroid

from src.analysis.separation import (
    ClassCenters,
    CsiSettings,
    balanced,
    class_centers,
    credit_and_ties,
    in_sample,
    layers,
    leave_one_out_distances,
    plateau,
    separation,
    squared_distances,
)
from src.core.dataset import Split
from src.core.errors import ParamsError
from src.network.vgg import VGG, ModelSettings, vgg16_plan
from stages import csi as stage

# scikit-learn warns about features that are always zero, and a network has some
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*zero standard deviation"),
    pytest.mark.filterwarnings("ignore:invalid value encountered"),
]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VGG(vgg16_plan(ModelSettings(head="compact", width=0.125)), torch.full((3,), 0.5), torch.full((3,), 0.25))


def images_of(each, seed):
    """Return ``each`` images of each class: a weak pattern of the class plus noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(10).repeat(each)
    pattern = torch.rand(10, 3, 32, 32, generator=torch.Generator().manual_seed(99))
    noise = torch.rand(len(labels), 3, 32, 32, generator=generator)
    return Split(((0.1 * pattern[labels] + 0.9 * noise) * 255).byte(), labels)


@pytest.fixture(scope="module")
def train():
    return images_of(6, seed=1)


@pytest.fixture(scope="module")
def held_out():
    return images_of(4, seed=2)


@pytest.fixture(scope="module")
def centers(model, train):
    return class_centers(model, train)


def outputs(model, split):
    """Return the output of each module: they run one by one on copies, so no in-place ReLU changes an output."""
    maps = (split.images.float() / 255 - model.mean.view(1, 3, 1, 1)) / model.std.view(1, 3, 1, 1)
    modules = {f"features.{i}": module for i, module in enumerate(model.features)} | {"avgpool": model.avgpool}
    modules |= {f"classifier.{i}": module for i, module in enumerate(model.classifier)}
    found = {}
    with torch.no_grad():
        for name, module in modules.items():
            maps = module.eval()(maps.flatten(1).clone() if name == "classifier.0" else maps.clone())
            found[name] = maps.flatten(1).double().numpy()
    return found


def score(points, labels, means, counts, leave_one_out=False):
    """Return CSI and tie rate of points that are given directly."""
    points, labels, means, counts = map(torch.tensor, (points, labels, means, counts))
    distances = squared_distances(points.double(), means.double(), counts)
    if leave_one_out:
        distances = leave_one_out_distances(distances, labels, counts)
    credit, tied = credit_and_ties(distances, labels, means.double().square().sum(1).max())
    return credit.mean().item(), tied.double().mean().item()


def test_layers_are_those_of_the_network_in_order(model):
    found = layers(model)
    assert len(found) == 52
    assert [layer.layer for layer in found] == list(outputs(model, images_of(1, 0)))
    assert [layer.kind for layer in found[:4]] == ["conv", "batchnorm", "relu", "conv"]
    assert found[6].kind == found[44].kind == "pool"
    assert [found[i].block for i in (0, 6, 7, 43, 44, 51)] == ["1", "1", "2", "5", "head", "head"]
    assert (found[0].channels, found[0].dims) == (8, 8 * 32 * 32)
    assert (found[-1].kind, found[-1].dims) == ("linear", 10)


def test_held_out_csi_is_the_accuracy_of_nearest_centroid(model, train, held_out, centers):
    found = separation(model, held_out, centers)
    seen, unseen = outputs(model, train), outputs(model, held_out)
    assert list(found) == list(seen)
    for name, result in found.items():
        oracle = NearestCentroid().fit(seen[name], train.labels).score(unseen[name], held_out.labels)
        assert result.csi == pytest.approx(oracle), name


def test_leave_one_out_csi_agrees_with_a_loop_that_leaves_one_out(model, train, centers):
    found = separation(model, train, centers, leave_one_out=True)
    points, labels = outputs(model, train), train.labels.numpy()
    for name in ("features.0", "features.5", "features.33", "avgpool", "classifier.6"):
        right = 0
        for i in range(len(labels)):
            others = np.arange(len(labels)) != i
            means = [points[name][others & (labels == k)].mean(0) for k in range(10)]
            right += int(np.argmin([np.sum((points[name][i] - mean) ** 2) for mean in means])) == labels[i]
        assert found[name].csi == pytest.approx(right / len(labels)), name


def test_in_sample_csi_scores_points_against_their_own_centers(model, held_out):
    points = outputs(model, held_out)
    for name, result in in_sample(model, held_out).items():
        oracle = NearestCentroid().fit(points[name], held_out.labels).score(points[name], held_out.labels)
        assert result.csi == pytest.approx(oracle), name


def test_batch_size_changes_nothing(model, train, centers):
    one_by_seven = class_centers(model, train, batch_size=7)
    for name, found in one_by_seven.items():
        torch.testing.assert_close(found.means, centers[name].means, rtol=1e-5, atol=1e-6)
    whole = separation(model, train, centers, leave_one_out=True)
    assert separation(model, train, one_by_seven, leave_one_out=True, batch_size=7) == whole


def test_the_network_is_not_changed(model, train):
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    class_centers(model, train[:20])
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_noise_gives_chance_and_in_sample_misleads():
    generator = np.random.default_rng(0)
    points, labels = generator.normal(size=(2000, 300)), np.arange(2000) % 10
    counts = np.bincount(labels)
    means = np.stack([points[labels == k].mean(0) for k in range(10)])
    others = generator.normal(size=(2000, 300))
    assert score(points, labels, means, counts, leave_one_out=True)[0] == pytest.approx(0.1, abs=0.03)
    assert score(others, labels, means, counts)[0] == pytest.approx(0.1, abs=0.03)
    assert score(points, labels, means, counts)[0] > 0.4


def test_five_points_by_hand():
    # class 0: 0, 2, 7 with center 3; class 1: 4, 10 with center 7
    points, labels = [[0.0], [2.0], [7.0], [4.0], [10.0]], [0, 0, 0, 1, 1]
    means, counts = [[3.0], [7.0]], [3, 2]
    # in-sample: 0 and 2 are nearer to 3 (right), 7 to 7 (wrong), 4 to 3 (wrong), 10 to 7 (right)
    assert score(points, labels, means, counts) == pytest.approx((3 / 5, 0))
    # leave-one-out: the centers of their own classes become 4.5, 3.5, 1, 10, 4. So 0 and 2 are right, 7 is nearer to 7
    # than to 1 (wrong), 4 to 3 than to 10 (wrong), 10 to 4 than to 3 (right)
    assert score(points, labels, means, counts, leave_one_out=True) == pytest.approx((3 / 5, 0))


def test_leave_one_out_gives_the_exact_distance():
    points = torch.tensor([[0.0, 1.0], [2.0, 5.0], [7.0, 3.0], [4.0, 4.0], [9.0, 0.0]], dtype=torch.float64)
    labels, counts = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([3, 2])
    means = torch.stack([points[labels == k].mean(0) for k in (0, 1)])
    left_out = leave_one_out_distances(squared_distances(points, means, counts), labels, counts)
    for i, label in enumerate(labels):
        others = (labels == label) & (torch.arange(5) != i)
        assert left_out[i, label] == pytest.approx(((points[i] - points[others].mean(0)) ** 2).sum().item())


def test_the_only_image_of_a_class_has_no_center_of_its_own():
    assert score([[0.0], [1.0], [5.0]], [0, 0, 1], [[0.5], [5.0]], [2, 1], leave_one_out=True)[0] == pytest.approx(
        2 / 3
    )


def test_a_class_without_images_is_nearest_to_no_image():
    assert score([[0.1], [5.0]], [1, 1], [[0.0], [2.5]], [0, 2]) == (1, 0)


@pytest.mark.parametrize("constant", [0.0, 1 / 3, 1e4])
@pytest.mark.parametrize("leave_one_out", [False, True])
def test_a_layer_without_information_ties_everywhere_and_scores_chance(constant, leave_one_out):
    labels = np.array([0] * 25 + [3] * 5 + [9] * 10)
    counts = np.bincount(labels, minlength=10)
    points, means = np.full((40, 64), constant), np.full((10, 64), constant)
    csi, tie_rate = score(points, labels, means, counts, leave_one_out)
    assert (csi, tie_rate) == (pytest.approx(1 / 3), 1)


def test_dead_channels_are_those_that_are_zero_throughout():
    sums = torch.zeros(10, 4, 6, dtype=torch.float64)
    sums[3, 1, 2], sums[0, 2, 0] = 1.0, -1.0
    assert ClassCenters(sums.flatten(1), torch.ones(10)).dead_share(4) == 0.5


def test_balanced_takes_as_many_of_each_class_and_follows_the_seed():
    split = images_of(8, seed=3)
    first, again, other = (balanced(split, "train", 50, seed) for seed in (0, 0, 1))
    assert torch.bincount(first.labels).tolist() == [5] * 10
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_balanced_names_the_key_when_a_class_has_too_few():
    with pytest.raises(ParamsError, match=r"csi\.in_sample_test: 100 needs 10 .* only 8; .* up to 80"):
        balanced(images_of(8, seed=3), "test", 100, seed=0)


@pytest.mark.parametrize("count", [0, 10, 35, "40"])
def test_counts_that_cannot_be_balanced_are_refused(count):
    with pytest.raises(ValidationError):
        CsiSettings(in_sample_train=count, in_sample_test=40)


def test_plateau_is_the_first_within_one_standard_error():
    # one standard error of 0.9 over 100 images is 0.03
    assert plateau([0.2, 0.86, 0.88, 0.9, 0.87], 100) == 2
    assert plateau([0.2, 0.86, 0.88, 0.9, 0.87], 10_000) == 3


def test_headline_names_the_plateau_and_the_last_layer():
    values = [("first", 0.2), ("middle", 0.88), ("best", 0.9), ("last", 0.85)]
    rows = [{"layer": name, "validation": validation} for name, validation in values]
    expected = {"plateau_layer": "middle", "plateau_validation": 0.88, "last_validation": 0.85}
    assert stage.headline(rows, images=100) == expected
