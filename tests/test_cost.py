"""Costs against hand arithmetic and PyTorch's own counter."""

import contextlib

import pytest
import torch
from networks import vgg
from torch.utils.flop_counter import FlopCounterMode

from src.network.cost import macs, parameters
from src.network.vgg import VGG, Conv, Hidden, Plan, Pool

SMALL = Plan(
    features=(Conv(name="a", channels=8), Pool(name="p"), Conv(name="b", channels=16, batch_norm=False)),
    head=(Hidden(name="h", width=4),),
)


def test_by_hand():
    model = VGG(SMALL)
    convolutions = 32 * 32 * 8 * 27 + 16 * 16 * 16 * 8 * 9
    assert macs(model) == convolutions + 16 * 4 + 4 * 10
    assert macs(model, 16) == convolutions // 4 + 16 * 4 + 4 * 10
    assert parameters(model) == (8 * 27 + 8 + 16) + (16 * 72 + 16) + (16 * 4 + 4) + (4 * 10 + 10)


def test_published_figures_of_vgg16():
    model = VGG(vgg(1.0))
    assert parameters(model) == 15_253_578
    assert macs(model) == 313_725_952


@pytest.mark.parametrize("head", ["compact", "imagenet"])
def test_against_torch(head):
    model = VGG(vgg(head=head)).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    assert 2 * macs(model) == counter.get_total_flops()


@pytest.mark.parametrize("side", [32, 2])
def test_counting_leaves_the_network_as_it_was_also_where_an_image_is_too_small(side):
    model = VGG(Plan(features=(*SMALL.features, Conv(name="c", channels=8, kernel=5)), head=()))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with contextlib.nullcontext() if side == 32 else pytest.raises(RuntimeError, match="Kernel size"):
        macs(model, side)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
