"""CSI against loops, against scikit-learn's NearestCentroid, and on points made by hand; the stream; the stage csi."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import CLASSES, INFO, vgg
from pydantic import ValidationError
from sklearn.neighbors import NearestCentroid
from torch import nn

from src.core.errors import ParamsError
from src.core.files import read_csv, read_json
from src.core.params import read_yaml
from src.core.recipes import ROOT, CutSection
from src.data.prepared import Split
from src.data.split import LEAST
from src.network.cost import macs
from src.network.record import network_path
from src.network.vgg import VGG, save
from src.separation.centers import (
    COLUMNS,
    ROWS,
    CenterReceiver,
    Centers,
    SumReceiver,
    center_separation,
    class_sums,
    leave_one_out_distances,
    squared_distances,
)
from src.separation.layers import block_ends, layers
from src.separation.rank import dead_share
from src.separation.sampling import drawn
from src.separation.scores import Scores, first_within, paired_error
from src.separation.stream import stream
from stages import csi as stage

# scikit-learn warns about features that are always zero, and a network has some
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*zero standard deviation"),
    pytest.mark.filterwarnings("ignore:invalid value encountered"),
]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VGG(vgg(), torch.full((3,), 0.5), torch.full((3,), 0.25))


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


def sums_of(model, split, **options):
    receiver = SumReceiver(split.labels, 10)
    stream(model, split.images, [receiver], **options)
    return receiver.sums


def scores_of(model, split, centers, **options):
    receiver = CenterReceiver(split.labels, centers, **options)
    stream(model, split.images, [receiver])
    return receiver.scores()


@pytest.fixture(scope="module")
def centers(model, train):
    return {name: sums.centers() for name, sums in sums_of(model, train).items()}


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


def by_flat_channel(points, channels):
    """Centers of flattened maps lie position by position; return them channel by channel, as PyTorch flattens."""
    return points.view(len(points), -1, channels).transpose(1, 2).flatten(1)


def scored(points, labels, protocol):
    """The scores of ``points`` against their own centers, by leave-one-out or in-sample."""
    centers = class_sums(points, labels).centers() if protocol == "in-sample" else None
    return center_separation(points, labels, centers)


def test_layers_are_those_of_the_network_in_order(model):
    found = layers(model)
    assert len(found) == 52
    assert [layer.name for layer in found] == list(outputs(model, images_of(1, 0)))
    assert [layer.kind for layer in found[:4]] == ["conv", "batchnorm", "relu", "conv"]
    assert found[6].kind == found[44].kind == "pool"
    assert [found[i].block for i in (0, 6, 7, 43, 44, 51)] == ["1", "1", "2", "5", "head", "head"]
    assert (found[0].channels, found[0].dims) == (8, 8 * 32 * 32)
    assert (found[-1].kind, found[-1].dims) == ("linear", 10)


def test_held_out_csi_is_the_accuracy_of_nearest_centroid(model, train, held_out, centers):
    found = scores_of(model, held_out, centers)
    seen, unseen = outputs(model, train), outputs(model, held_out)
    assert list(found) == list(seen)
    for name, result in found.items():
        oracle = NearestCentroid().fit(seen[name], train.labels).score(unseen[name], held_out.labels)
        assert result.value == pytest.approx(oracle), name


def test_pooled_csi_is_that_of_averaged_maps(model, train, held_out, centers):
    found = scores_of(model, held_out, centers, pooled=True)
    seen, unseen = outputs(model, train), outputs(model, held_out)
    for layer in layers(model):
        one, other = (
            points[layer.name].reshape(-1, layer.channels, layer.dims // layer.channels).mean(2)
            for points in (seen, unseen)
        )
        oracle = NearestCentroid().fit(one, train.labels).score(other, held_out.labels)
        assert found[layer.name].value == pytest.approx(oracle), layer.name


def test_leave_one_out_csi_agrees_with_a_loop_that_leaves_one_out(model, train, centers):
    found = scores_of(model, train, centers, leave_one_out=True)
    points, labels = outputs(model, train), train.labels.numpy()
    for name in ("features.0", "features.5", "features.33", "avgpool", "classifier.6"):
        right = 0
        for i in range(len(labels)):
            others = np.arange(len(labels)) != i
            means = [points[name][others & (labels == k)].mean(0) for k in range(10)]
            right += int(np.argmin([np.sum((points[name][i] - mean) ** 2) for mean in means])) == labels[i]
        assert found[name].value == pytest.approx(right / len(labels)), name


def test_in_sample_csi_scores_points_against_their_own_centers(model, held_out):
    points = outputs(model, held_out)
    own = {name: sums.centers() for name, sums in sums_of(model, held_out).items()}
    for name, result in scores_of(model, held_out, own).items():
        oracle = NearestCentroid().fit(points[name], held_out.labels).score(points[name], held_out.labels)
        assert result.value == pytest.approx(oracle), name


def test_a_receiver_may_look_at_some_of_the_images(model, train):
    some = torch.cat([torch.arange(10, 20), torch.arange(30, 50)])
    receiver = SumReceiver(train.labels, 10, some)
    stream(model, train.images, [receiver])
    whole = sums_of(model, train[some])
    own = receiver.centers()
    for name, sums in whole.items():
        torch.testing.assert_close(receiver.sums[name].sums, sums.sums, rtol=1e-6, atol=1e-5)
    scorer = CenterReceiver(train.labels, own, leave_one_out=True, among=some)
    stream(model, train.images, [scorer])
    expected = scores_of(model, train[some], own, leave_one_out=True)
    for name, scores in scorer.scores().items():
        assert torch.equal(scores.credits, expected[name].credits), name
        assert torch.equal(scores.labels, train.labels[some])


def test_the_batch_size_changes_nothing(model, train, centers):
    by_seven = sums_of(model, train, batch_size=7)
    for name, center in centers.items():
        torch.testing.assert_close(by_seven[name].centers().means, center.means, rtol=1e-5, atol=1e-6)


def test_the_network_is_not_changed(model, train):
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sums_of(model, train[:20])
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_stream_takes_any_network_and_stops_after_the_last_module_that_is_asked_for():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3), nn.Tanh())
    images = torch.randn(11, 2, 6, 6)
    seen = []
    stream(network, images, [lambda *call: seen.append(call)], ["0", "3"], batch_size=4)
    assert [name for name, _, _ in seen] == ["0", "3"] * 3
    assert torch.cat([index for name, _, index in seen if name == "3"]).tolist() == list(range(11))
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([o for name, o, _ in seen if name == "3"]), network[:4](images))
    with pytest.raises(ValueError, match="modules: found nine; wanted names among 0, 1, 2, 3, 4"):
        stream(network, images, [], ["nine"])


def test_noise_gives_chance_and_in_sample_misleads():
    generator = np.random.default_rng(0)
    points, labels = generator.normal(size=(2000, 300)), np.arange(2000) % 10
    others, centers = generator.normal(size=(2000, 300)), class_sums(points, labels).centers()
    error = 4 * math.sqrt(0.1 * 0.9 / 2000)
    assert center_separation(points, labels).value == pytest.approx(0.1, abs=error)
    assert center_separation(others, labels, centers).value == pytest.approx(0.1, abs=error)
    assert center_separation(points, labels, centers).value > 0.4


def test_eight_points_by_hand():
    # class 0: 0, 1, 2, 9 with center 3; class 1: 5, 8, 10, 13 with center 9
    points = np.array([[0.0], [1.0], [2.0], [9.0], [5.0], [8.0], [10.0], [13.0]])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    # in-sample: 9 is nearer to 9 (wrong), 5 to 3 (wrong), the others are right
    scores = center_separation(points, labels, class_sums(points, labels).centers())
    assert scores.credits.tolist() == [1, 1, 1, 0, 0, 1, 1, 1]
    assert scores.by_class().tolist() == [0.75, 0.75]
    # leave-one-out: the centers of their own classes become 4, 11/3, 10/3, 1 and 31/3, 28/3, 26/3, 23/3. So 0, 1 and 2
    # are right, 9 is nearer to 9 than to 1 (wrong), 5 to 3 than to 31/3 (wrong), and 8, 10 and 13 are right
    left_out = center_separation(points, labels)
    assert left_out.credits.tolist() == [1, 1, 1, 0, 0, 1, 1, 1]
    # held-out against centers 0 and 10 (one image each): 0, 1, 2 right, 9 wrong, 5 tied between both: 1/2, others right
    given = class_sums(np.array([[0.0], [10.0]]), np.array([0, 1])).centers()
    held_out = center_separation(points, labels, given)
    assert held_out.credits.tolist() == [1, 1, 1, 0, 0.5, 1, 1, 1]
    assert held_out.tied.tolist() == [False] * 4 + [True] + [False] * 3
    assert (held_out.value, held_out.tie_rate) == (6.5 / 8, 1 / 8)
    # differences held-out minus in-sample: 0.5 once, of eight; variance (0.25 - 0.5^2 / 8) / 7
    assert paired_error(held_out, scores) == pytest.approx(math.sqrt((0.25 - 0.25 / 8) / 7 / 8))


def test_paired_error_is_that_of_a_bootstrap():
    generator = torch.Generator().manual_seed(0)
    first = (torch.rand(400, generator=generator) < 0.8).double()
    second = torch.where(torch.rand(400, generator=generator) < 0.1, 1 - first, first)
    labels = torch.zeros(400, dtype=torch.int64)
    one, other = (Scores(credit, credit > 2, labels, 1) for credit in (first, second))
    drawn_rows = torch.randint(0, 400, (4000, 400), generator=generator)
    bootstrap = (first - second)[drawn_rows].mean(1).std().item()
    assert paired_error(one, other) == pytest.approx(bootstrap, rel=0.05)
    with pytest.raises(ValueError, match="second: found other labels than in first"):
        paired_error(one, Scores(second, second > 2, labels + 1, 2))


@pytest.mark.parametrize("protocol", ["leave-one-out", "in-sample"])
def test_csi_does_not_change_with_shift_rotation_and_scale(protocol):
    generator = np.random.default_rng(1)
    labels = np.arange(300) % 5
    points = generator.normal(size=(300, 20)) + 0.3 * generator.normal(size=(5, 20))[labels]
    rotation = np.linalg.qr(generator.normal(size=(20, 20)))[0]
    expected = scored(points, labels, protocol)
    assert 0.25 < expected.value < 1
    for moved in (points + 100, points @ rotation, points * 1e-6, points * 1e6):
        assert torch.equal(scored(moved, labels, protocol).credits, expected.credits)
        assert torch.equal(scored(moved.astype(np.float32), labels, protocol).credits, expected.credits)


@pytest.mark.parametrize("protocol", ["leave-one-out", "in-sample"])
def test_float32_gives_the_credits_of_float64(protocol):
    generator = torch.Generator().manual_seed(0)
    points, labels = torch.randn(500, 3, generator=generator) + 1000, torch.arange(500) % 10
    points[250:] = points[:250]  # duplicates of other classes
    points[100] = points[labels == 3].double().mean(0).float()
    single, double = (scored(x, labels, protocol) for x in (points, points.double()))
    assert torch.equal(single.credits, double.credits)
    assert torch.equal(single.tied, double.tied)


def test_wide_layers_and_large_classes_are_measured_part_by_part():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(4 * ROWS) % 6).clamp(max=2)[torch.randperm(4 * ROWS, generator=generator)]
    points = torch.randn(len(labels), 2 * COLUMNS + 5, generator=generator).relu()
    sums, double = class_sums(points, labels), points.double()
    assert int(sums.counts.max()) > 2 * ROWS
    expected = torch.stack([double[labels == k].sum(0) for k in range(3)])
    torch.testing.assert_close(sums.sums, expected, rtol=1e-14, atol=0)
    centers = sums.centers()
    torch.testing.assert_close(squared_distances(points, centers), torch.cdist(double, centers.means).square())
    single, exact = (center_separation(x, labels) for x in (points, double))
    assert torch.equal(single.credits, exact.credits)
    assert 0 < single.value < 1


def test_leave_one_out_gives_the_exact_distance():
    points = torch.tensor([[0.0, 1.0], [2.0, 5.0], [7.0, 3.0], [4.0, 4.0], [9.0, 0.0]], dtype=torch.float64)
    labels, counts = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([3, 2])
    means = torch.stack([points[labels == k].mean(0) for k in (0, 1)])
    left_out = leave_one_out_distances(squared_distances(points, Centers(means, counts)), labels, counts)
    for i, label in enumerate(labels):
        others = (labels == label) & (torch.arange(5) != i)
        assert left_out[i, label] == pytest.approx(((points[i] - points[others].mean(0)) ** 2).sum().item())


@pytest.mark.parametrize("constant", [0.0, 1 / 3, 1e4])
@pytest.mark.parametrize("protocol", ["leave-one-out", "in-sample"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_without_information_ties_everywhere_and_scores_chance(constant, protocol, dtype):
    labels = np.array([0] * 25 + [1] * 5 + [2] * 10)
    scores = scored(np.full((40, 64), constant, dtype), labels, protocol)
    assert (scores.value, scores.tie_rate) == (pytest.approx(1 / 3), 1)


def test_maps_are_flattened_and_centers_pooled():
    maps, labels = torch.randn(30, 6, 4, 5), torch.arange(30) % 3
    flat = center_separation(maps.flatten(1), labels)
    assert torch.equal(center_separation(maps, labels).credits, flat.credits)
    centers = class_sums(maps, labels).centers()
    torch.testing.assert_close(by_flat_channel(centers.means, 6), class_sums(maps.flatten(1), labels).centers().means)
    torch.testing.assert_close(
        centers.pooled(6).means, class_sums(maps.mean((2, 3)), labels).centers().means, rtol=1e-5, atol=1e-7
    )


POINTS, LABELS = np.arange(12.0).reshape(6, 2), np.array([0, 0, 1, 1, 2, 2])
THREE = class_sums(POINTS, LABELS).centers()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": LABELS - 1}, "y: found labels from -1 to 1; wanted 0 to 1"),
        ({"y": LABELS + 1, "centers": THREE}, "y: found labels from 1 to 3; wanted 0 to 2"),
        ({"y": LABELS[:5]}, r"y: found shape \(5,\); wanted \(6,\)"),
        ({"y": LABELS / 2}, "y: found torch.float64; wanted integers"),
        ({"y": LABELS * 2}, "y: found 0 of class 1; wanted at least 1 images"),
        ({"y": np.array([0, 0, 1, 1, 1, 2])}, "y: found 1 of class 2; wanted at least 2 images"),
        ({"x": np.where(POINTS == 3, np.nan, POINTS)}, "x: found NaN or Inf; wanted finite numbers"),
        ({"x": np.where(POINTS == 3, np.inf, POINTS)}, "x: found NaN or Inf; wanted finite numbers"),
        ({"x": POINTS[:, :1], "centers": THREE}, "x: found 1 values per image; wanted 2, as in centers"),
        ({"x": POINTS.reshape(6, 2, 1)}, r"x: found shape \(6, 2, 1\); wanted \[N, D\] or \[N, C, H, W\]"),
        ({"x": POINTS[:0], "y": LABELS[:0]}, "x: found no image; wanted at least one"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        center_separation(**{"x": POINTS, "y": LABELS} | arguments)


def test_bad_input_of_receivers_is_named():
    network, images, labels = nn.Sequential(nn.Flatten()), torch.ones(4, 1, 2, 2), torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match="labels: found labels from 0 to 1; wanted 0 to 0"):
        SumReceiver(labels, 1)
    missing, broken = SumReceiver(labels, 3), SumReceiver(labels, 2)
    stream(network, images, [missing])
    with pytest.raises(ValueError, match=r"labels \(0\): found 0 of class 2"):
        missing.centers()
    stream(network, images * torch.tensor([1.0, math.nan, 1, 1]).view(4, 1, 1, 1), [broken])
    with pytest.raises(ValueError, match=r"labels \(0\): found NaN or Inf"):
        broken.centers()
    with pytest.raises(ValueError, match="centers: found 1 of class 0; wanted at least 2 images"):
        CenterReceiver(labels, {"0": class_sums(images[:2], labels[1:3]).centers()}, leave_one_out=True)
    scorer = CenterReceiver(labels, {"0": class_sums(images, labels).centers()})
    stream(network, images * math.inf, [scorer])
    with pytest.raises(ValueError, match="activations of 0: found NaN or Inf"):
        scorer.scores()


def test_dead_channels_are_those_that_are_zero_throughout():
    means = torch.zeros(10, 6, 4, dtype=torch.float64)
    means[3, 2, 1], means[0, 0, 2] = 1.0, -1.0
    assert dead_share(means.flatten(1), 4) == 0.5


def test_a_drawn_sample_holds_every_class_and_at_most_all_images():
    labels = torch.tensor([0] * 80 + list(range(10)) * 2)
    assert torch.bincount(labels[drawn(labels, 20, 0)]).tolist() == [2] * 10
    assert drawn(labels, 1000, 0).tolist() == list(range(100))
    assert torch.equal(drawn(labels, 20, 0), drawn(labels, 20, 0))
    assert not torch.equal(drawn(labels, 20, 0), drawn(labels, 20, 1))


@pytest.mark.parametrize("count", [0, "40"])
def test_counts_that_are_none_are_refused(count):
    with pytest.raises(ValidationError):
        stage.CsiSettings(in_sample_train=count, in_sample_test=40, neighbour_images=40, probe_images=40)


def test_counts_that_do_not_allow_two_images_of_each_class_are_refused_in_one_line():
    settings = stage.CsiSettings(in_sample_train=40, in_sample_test=40, neighbour_images=39, probe_images=40)
    stage.check_counts(settings, 19)
    told = r"^params\.yaml: csi\.neighbour_images: at least 40 are needed, two of each of the 20 classes \(found 39\)$"
    with pytest.raises(ParamsError, match=told):
        stage.check_counts(settings, 20)


def test_neighbours_of_large_images_are_as_many_as_memory_holds(capsys):
    assert stage.neighbours_in_memory(10_000, VGG(vgg(width=1))) == 10_000
    assert stage.neighbours_in_memory(10_000, VGG(vgg(width=1, side=96))) == 3 * 2**30 // (4 * 64 * 96 * 96) == 1365
    assert "neighbours: 1365 images, not 10000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("counts", "wanted", "per_class", "told"),
    [
        ([50, 40, 30], 90, 30, ""),
        ([50, 40, 30], 100, 30, "90 images, not 100: a class has only 30"),
        ([50, 40, 40], 100, 33, "99 images, not 100: 33 of each of the 3 classes"),
        ([4] * 256, 1000, 3, "768 images, not 1000: 3 of each of the 256 classes"),
        ([40] * 100, 3000, 30, ""),
    ],
)
def test_in_sample_images_are_as_many_of_each_class_as_there_can_be(counts, wanted, per_class, told, capsys):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    places = stage.in_sample("train", Split(labels, labels), wanted, len(counts), seed=0)
    assert labels[places].bincount().tolist() == [per_class] * len(counts)
    assert capsys.readouterr().out == (f"in-sample, train: {told}\n" if told else "")


@pytest.mark.parametrize(
    ("values", "epsilon", "index"),
    [
        ([0.3, 0.5, 0.9, 0.9, 0.9], 0.0, 2),
        ([0.3, 0.5, 0.5, 0.8, 0.9], 0.05, 4),  # a flat stretch is not the end of what still rises later
        ([0.3, 0.5, 0.88, 0.9, 0.7], 0.05, 2),
        ([0.9048, 0.9068], 0.002, 0),  # ten of 5,000 images, which as floats are a little more than epsilon
        ([0.9046, 0.9068], 0.002, 1),
        ([0.3, 0.2], 0.0, 0),
    ],
)
def test_a_score_stops_rising_at_the_first_value_within_epsilon_of_the_highest(values, epsilon, index):
    assert first_within(values, epsilon) == index


@pytest.mark.parametrize("values", [[], [0.5, math.nan]])
def test_a_score_without_finite_values_stops_nowhere(values):
    with pytest.raises(ValueError, match="wanted finite numbers, at least one"):
        first_within(values, 0.1)


@pytest.fixture
def measured(tmp_path, monkeypatch, model):
    """A function that runs the stage on ``splits``."""
    monkeypatch.chdir(tmp_path)
    network_path(ROOT).parent.mkdir(parents=True)
    save(model, network_path(ROOT), {})
    cut = CutSection(steps={"truncate": {"epsilon": 0.1}})

    def run(splits, **settings):
        params = stage.Params(seed=0, device="cpu", csi=stage.CsiSettings(**settings), compress=cut)
        monkeypatch.setattr(stage, "load_split", splits.get)
        monkeypatch.setattr(stage, "load_info", lambda: INFO)
        monkeypatch.setattr(stage, "load_params", lambda *_: params)
        stage.main()

    return run


def test_the_stage_can_use_all_data_that_split_lets_pass(measured, capsys):
    committed = read_yaml(Path(__file__).parents[1] / "params.yaml")["csi"]
    measured({name: images_of(count, seed) for seed, (name, count) in enumerate(LEAST.items())}, **committed)
    assert "in-sample, train: 20 images, not 3000: a class has only 2" in capsys.readouterr().out
    for path in (stage.TABLE, stage.POSITIONS, stage.BY_CLASS):
        numbers = [value for row in read_csv(path) for value in row.values() if not isinstance(value, str)]
        assert np.isfinite(numbers).all(), path


def test_the_stage_writes_its_three_tables_and_the_headline(measured, model):
    splits = {"train": images_of(8, 1), "validation": images_of(4, 2), "test": images_of(5, 3)}
    measured(splits, in_sample_train=40, in_sample_test=20, neighbour_images=30, probe_images=50)
    table, positions, by_class = map(read_csv, (stage.TABLE, stage.POSITIONS, stage.BY_CLASS))
    assert [row["layer"] for row in table] == [layer.name for layer in layers(model)]
    assert [row["layer"] for row in by_class] == [layer.name for layer in layers(model)]
    assert [row["block"] for row in positions] == [block.name for block in model.plan.features]
    assert [row["layer"] for row in positions] == list(block_ends(model.plan).values())
    assert positions[-1]["macs"] == macs(model.features, 32)
    csi = {row["layer"]: row for row in table}
    for row in positions:
        assert row["csi"] == csi[row["layer"]]["validation"]
        assert row["csi_pooled"] == csi[row["layer"]]["validation_pooled"]
        assert row["in_sample"] == csi[row["layer"]]["train_in_sample"]
        assert 1 <= row["effective_rank"] <= row["channels"]
    assert min(row["csi_gap_error"] for row in positions) == min(row["probe_gap_error"] for row in positions) == 0
    for row, classes in zip(table, by_class, strict=True):
        assert row["test"] == pytest.approx(np.mean([classes[name] for name in CLASSES]), abs=1e-5)
    highest = max(row["validation"] for row in table)
    plateau = next(row for row in table if highest - row["validation"] < 0.1 + 1e-6)
    assert highest > plateau["validation"]
    assert read_json(stage.METRICS) == {
        "plateau_layer": plateau["layer"],
        "plateau_validation": plateau["validation"],
        "last_validation": table[-1]["validation"],
    }
    few = drawn(splits["test"].labels, 20, 0)
    own = {name: sums.centers() for name, sums in sums_of(model, splits["test"][few]).items()}
    for column, options in (("test_in_sample", {}), ("test_same", {"leave_one_out": True})):
        for name, scores in scores_of(model, splits["test"][few], own, **options).items():
            assert csi[name][column] == pytest.approx(scores.value, abs=1e-6), (column, name)
    many = {name: sums.centers() for name, sums in sums_of(model, splits["train"]).items()}
    for name, scores in scores_of(model, splits["test"][few], many).items():
        assert csi[name]["test_many"] == pytest.approx(scores.value, abs=1e-6), name
