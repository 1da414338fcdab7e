"""The greedy selection of channels by CSI, on distances written by hand and against a plain loop."""

from pathlib import Path

import pytest
import torch
from networks import colors, plan, trained

from src.compression.selection import channel_distances, greedy_order, selection_scores
from src.core.errors import ParamsError
from src.core.params import read_yaml, validate
from src.data.prepared import Split
from src.techniques.prune_channels import Settings, prune
from src.training.recipe import Training

IMAGES = colors(60)
BY_CSI = {"importance": "csi", "ranking": "uniform", "ratio": 0.5, "max_layer_ratio": 0.9, "round_to": 8, "draw": 0}


def test_the_channels_that_separate_together_come_first():
    """Four images of two classes. Channel 2 alone is right for all, 1 for three of them, 0 for two."""
    labels = torch.tensor([0, 0, 1, 1])
    to_class_0 = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 9.0], [0.0, 0.0, 9.0]])
    to_class_1 = torch.tensor([[2.0, 1.0, 4.0], [2.0, 1.0, 4.0], [3.0, 0.0, 0.0], [3.0, 3.0, 0.0]])
    distances = torch.stack([to_class_0, to_class_1], dim=1)
    assert greedy_order(distances, labels)[0] == 2
    assert greedy_order(distances[:, :, :2], labels) == [1, 0]


def test_greedy_order_agrees_with_a_plain_loop():
    generator = torch.Generator().manual_seed(3)
    distances = torch.rand(20, 4, 6, generator=generator)
    labels = torch.randint(4, (20,), generator=generator)
    order, left = [], list(range(6))
    while left:
        rights = []
        for channel in left:
            sums = distances[:, :, [*order, channel]].sum(2)
            rights.append(sum(int(row.argmin() == label) for row, label in zip(sums, labels, strict=True)))
        order.append(left.pop(rights.index(max(rights))))
    assert greedy_order(distances, labels) == order


def test_channel_distances_are_sums_of_squares():
    maps, centers = torch.rand(3, 2, 5), torch.rand(4, 2, 5)
    expected = (maps.unsqueeze(1) - centers.unsqueeze(0)).square().sum(3)
    torch.testing.assert_close(channel_distances(maps, centers), expected)


def test_each_layer_but_the_last_is_scored_by_rank():
    network = trained(plan(16, "pool", 24, "pool", head=(8,)))
    scores = selection_scores(network, IMAGES)
    assert list(scores) == [*network.convolutions, network.linear_layers[0]]
    for score in scores.values():
        assert sorted(score.tolist()) == list(range(1, len(score) + 1))


def test_a_class_without_images_has_no_center():
    few = Split(IMAGES.images[:8], torch.zeros(8, dtype=torch.int64))
    for score in selection_scores(trained(plan(8, "pool")), few).values():
        assert score.tolist() == [8, 7, 6, 5, 4, 3, 2, 1]  # every image is nearest to class 0, whatever is selected


def test_pruning_by_csi_keeps_the_channels_that_were_selected_first():
    network = trained(plan(16, "pool", head=(8,)))
    pruned = prune(network, IMAGES, Settings.model_construct(**BY_CSI, importance_batch=20))
    assert pruned.plan.widths == (8, 8)  # a hidden layer of 8 stays whole: round_to is 8
    first = selection_scores(network, IMAGES)[network.features[0]].topk(8).indices.sort().values
    torch.testing.assert_close(pruned.features[0].weight, network.features[0].weight[first])


def test_ranks_by_csi_are_not_compared_across_layers():
    params = read_yaml(Path("params.yaml"))
    values = params["compress"]["steps"]["prune_channels"] | {"importance": "csi", "ranking": "global", "budget": 1}
    values["train"] = Training(**params["train"]["defaults"])
    with pytest.raises(ParamsError, match="ranking must be uniform with importance csi"):
        validate(Settings, values)
    with pytest.raises(ParamsError, match="importance_images must be at least 2 with importance csi"):
        validate(Settings, values | {"ranking": "uniform", "importance_images": 1})
