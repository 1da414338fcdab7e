"""Techniques that change single weights, zeros and shared values, against oracles of their own."""

import contextlib
import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import candidate, colors, plan, trained
from test_techniques import TINY, TRAINING
from test_training import InterruptFrom, same

from src.compression.context import Context
from src.network.vgg import Conv, Plan
from src.techniques import prune_weights, share_weights
from src.training.checkpoints import Checkpoints

TWO_EPOCHS = {"train": TRAINING, "budget": 2}  # six steps of 20 images
PRUNE = prune_weights.Settings(sparsity=0.9, ramp=0.75, **TWO_EPOCHS)
SHARE = share_weights.Settings(values=16, **TWO_EPOCHS)
AVERAGED = TRAINING.model_copy(update={"ema_decay": 0.9})


@pytest.fixture
def context():
    return Context(colors(60), colors(30), seed=0, root=candidate(trained(TINY)))


def weights(network):
    return [layer.weight.detach() for layer in [*network.convolutions, *network.linear_layers]]


def share_of_zeros(network):
    return (all_weights(network) == 0).float().mean().item()


def all_weights(network):
    return torch.cat([weight.flatten() for weight in weights(network)])


@pytest.mark.parametrize(
    ("progress", "share"),
    [(0.1, 0.8 * (1 - 0.8**3)), (0.25, 0.7), (0.375, 0.8 * 63 / 64), (0.5, 0.8), (0.7, 0.8), (1.0, 0.8)],
)
def test_the_schedule_is_cubic_up_to_the_ramp_and_constant_afterwards(progress, share):
    assert prune_weights.sparsity_at(progress, final=0.8, ramp=0.5) == pytest.approx(share, rel=1e-12)


def test_without_a_ramp_the_share_is_reached_at_once():
    assert prune_weights.sparsity_at(1 / 180, final=0.8, ramp=0) == 0.8


@pytest.fixture
def five_by_five():
    """A 5 x 5 filter for each of three colors, and a last layer of ten weights: 85 weights, most of them 100."""
    network = trained(Plan(features=[Conv(name="conv", channels=1, kernel=5, padding=2)], head=()))
    with torch.no_grad():
        for weight in weights(network):
            weight.fill_(100)
        network.convolutions[0].weight[0, 0] = torch.arange(-12.0, 13).view(5, 5)
        network.classifier[-1].weight[3, 0] = -0.5
    return network


def test_the_smallest_weights_of_all_layers_go_and_the_sign_does_not_matter(five_by_five):
    prune_weights.prune(five_by_five, 10 / 85)
    expected = [
        [1, 1, 1, 1, 1],  # -12 to -8
        [1, 1, 1, 0, 0],  # -7 to -3
        [0, 0, 0, 0, 0],  # -2 to 2
        [0, 0, 1, 1, 1],  # 3 to 7
        [1, 1, 1, 1, 1],  # 8 to 12
    ]
    first, last = weights(five_by_five)
    assert torch.equal(first[0, 0] != 0, torch.tensor(expected, dtype=torch.bool))
    assert (first[0, 1:] == 100).all()
    assert (last[:, 0] == 0).tolist() == [row == 3 for row in range(10)]
    assert share_of_zeros(five_by_five) == pytest.approx(10 / 85)


def test_a_weight_that_has_grown_comes_back_and_another_goes(five_by_five):
    prune_weights.prune(five_by_five, 10 / 85)
    first = five_by_five.convolutions[0].weight
    with torch.no_grad():
        first[0, 0, 2, 2] = 7.5
    prune_weights.prune(five_by_five, 10 / 85)
    assert first[0, 0, 2, 2] == 7.5
    assert first[0, 0, 1, 2] == first[0, 0, 3, 2] == 0  # -5 and 5 are equally small: both go
    assert share_of_zeros(five_by_five) == pytest.approx(11 / 85)
    before = all_weights(five_by_five)
    prune_weights.prune(five_by_five, 0.1)  # more are zero already
    assert torch.equal(all_weights(five_by_five), before)


def test_the_mask_agrees_with_a_sort_of_all_magnitudes():
    network = trained(TINY)
    before = all_weights(network)
    prune_weights.prune(network, 0.6)
    gone = before.abs().argsort()[: round(0.6 * len(before))]
    expected = before.clone()
    expected[gone] = 0
    assert torch.equal(all_weights(network), expected)


@pytest.mark.parametrize("train", [TRAINING, AVERAGED])
def test_pruned_and_fine_tuned_the_share_is_exact_and_the_line_says_what_happened(train, context):
    parent = trained(TINY)
    at_once = copy.deepcopy(parent)
    prune_weights.prune(at_once, 0.9)
    biases = [layer.bias.detach().clone() for layer in parent.linear_layers]
    chosen = PRUNE.model_copy(update={"train": train})
    done = prune_weights.apply(candidate(parent), context, chosen)
    count = len(all_weights(done.network))
    zeros = round(0.9 * count)
    assert int((all_weights(done.network) == 0).sum()) == zeros
    assert "set 0.9 of the weights to zero" in done.record.steps[0]
    assert f"without fine-tuning: {context.validation_accuracy(at_once):.4f})" in done.record.steps[0]
    assert done.record.steps[0].endswith(f"-> {context.validation_accuracy(done.network):.4f}")
    assert not any(torch.equal(a, layer.bias) for a, layer in zip(biases, done.network.linear_layers, strict=True))
    assert done.record.image_passes == 120


@pytest.mark.parametrize("train", [TRAINING, AVERAGED])
@pytest.mark.parametrize("step", [2, 4, 6])  # within the ramp, within the second epoch, after the last step
@pytest.mark.parametrize(("technique", "settings"), [(prune_weights, PRUNE), (share_weights, SHARE)])
def test_interrupted_and_resumed_gives_the_same_bits(technique, settings, step, train, context, tmp_path):
    parent, chosen = trained(TINY), settings.model_copy(update={"train": train})
    prune_weights.prune(parent, 0.3)
    whole = technique.apply(candidate(copy.deepcopy(parent)), context, chosen)
    stop, checkpoints = InterruptFrom(step), Checkpoints(tmp_path)
    interruption = {"interruption": lambda: contextlib.nullcontext(stop.interrupted)}
    stopped = replace(context, reporter=stop, checkpoints=checkpoints, **interruption)
    with pytest.raises(KeyboardInterrupt, match=f"step {step} "):
        technique.apply(candidate(copy.deepcopy(parent)), stopped, chosen)
    again = technique.apply(candidate(copy.deepcopy(parent)), replace(context, checkpoints=checkpoints), chosen)
    assert same(again.network, whole.network)
    assert again.record.steps == whole.record.steps


def test_a_codebook_worked_out_by_hand():
    entries = np.array([9.4, 1.0, 5.2, 1.2, 9.0, 5.0])
    assert share_weights.codebook(entries, 3, seed=0) == pytest.approx([1.1, 5.1, 9.2])
    assert share_weights.codebook(np.array([2.0, -1, 2, -1]), 3, seed=0).tolist() == [-1, 2]
    assert share_weights.codebook(np.array([]), 3, seed=0).tolist() == []


def test_labels_agree_with_a_search_of_the_whole_codebook():
    weight = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(1))
    weight[weight.abs() < 0.3] = 0
    labels = share_weights.clusters(weight.contiguous(memory_format=torch.channels_last), 8, seed=0)
    entries = weight.double().numpy().ravel()
    book = share_weights.codebook(entries[entries != 0], 7, seed=0)  # zero is the eighth value
    for entry, label in zip(entries, labels, strict=True):
        assert label == (0 if entry == 0 else 1 + np.abs(book - entry).argmin())
    assert set(labels) == set(range(8))
    dense = share_weights.clusters(torch.rand(40, 40) + 1, 8, seed=0)
    assert set(dense) == set(range(1, 9))  # nothing is zero


def test_shared_values_are_the_means_of_their_weights_and_zeros_stay():
    network = trained(plan(8))
    prune_weights.prune(network, 0.5)
    before = [weight.clone() for weight in weights(network)]
    labels = [share_weights.clusters(weight, 8, seed=0) for weight in before]
    share_weights.share(network, labels)
    for weight, shared, own in zip(before, weights(network), labels, strict=True):
        own = torch.from_numpy(own).view(weight.shape)
        for label in own.unique():
            torch.testing.assert_close(shared[own == label], weight[own == label].mean().expand((own == label).sum()))
        assert torch.equal(shared == 0, weight == 0)
    once = all_weights(network)
    share_weights.share(network, labels)
    assert torch.equal(all_weights(network), once)


def test_which_weights_share_a_value_follows_from_weights_and_seed_alone(monkeypatch):
    monkeypatch.setattr(share_weights, "SAMPLE", 100)
    weight = torch.randn(30, 30, generator=torch.Generator().manual_seed(1))
    first, second, other = (share_weights.clusters(weight, 16, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("train", [TRAINING, AVERAGED])
def test_shared_and_fine_tuned_each_layer_has_few_values_and_the_zeros_of_its_parent(train, context):
    parent = trained(TINY)
    prune_weights.prune(parent, 0.7)
    before = [weight.clone() for weight in weights(parent)]
    done = share_weights.apply(candidate(parent), context, SHARE.model_copy(update={"train": train}))
    for weight, found in zip(before, weights(done.network), strict=True):
        assert 1 < len(found.unique()) <= 16
        assert torch.equal(found == 0, weight == 0)
    labels = [share_weights.clusters(weight, 16, context.seed) for weight in before]
    for own, found in zip(labels, weights(done.network), strict=True):
        for label in range(own.max() + 1):
            assert len(np.unique(found.numpy().ravel()[own == label])) <= 1
    assert not torch.equal(all_weights(done.network), torch.cat([weight.flatten() for weight in before]))
    assert "at most 16 values" in done.record.steps[0]
    assert done.record.steps[0].endswith(f"-> {context.validation_accuracy(done.network):.4f}")
    assert not done.record.export.fold


def test_folding_would_give_each_channel_values_of_its_own(context):
    once = candidate(trained(TINY)).after("pruned", trained(TINY), fold=True)
    assert once.record.export.fold
    assert not share_weights.apply(once, context, SHARE).record.export.fold
