"""The network: torchvision as the oracle, and what a file may hold."""

import pytest
import torch
from networks import trained
from safetensors.torch import save_file

from benchmarks.torchvision_compat import torchvision
from src.core.errors import UserError
from src.network.vgg import VGG, ModelSettings, load, save, set_dropout, vgg16_plan

NARROW = {head: ModelSettings(head=head, width=0.125) for head in ("compact", "imagenet")}


def test_imagenet_head_is_torchvisions_vgg16_bn():
    ours = VGG(vgg16_plan(ModelSettings(head="imagenet"))).eval()
    theirs = torchvision.models.vgg16_bn(num_classes=10).eval()
    theirs.load_state_dict({name: t for name, t in ours.state_dict().items() if name not in ("mean", "std")})
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


def test_normalisation_is_inside():
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    plain, inside = VGG(vgg16_plan(NARROW["compact"])).eval(), VGG(vgg16_plan(NARROW["compact"]), mean, std).eval()
    tensors = plain.state_dict()
    inside.load_state_dict({**tensors, "mean": mean, "std": std})
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(inside(images), plain((images - mean.view(3, 1, 1)) / std.view(3, 1, 1)))


@pytest.mark.parametrize("side", [8, 16, 24, 31, 32])
def test_smaller_images_go_through(side):
    assert VGG(vgg16_plan(NARROW["imagenet"]))(torch.rand(2, 3, side, side)).shape == (2, 10)


def test_width():
    plan = vgg16_plan(ModelSettings(width=0.5))
    assert [conv.channels for conv in plan.convolutions] == [32, 32, 64, 64, *[128] * 3, *[256] * 6]
    assert plan.head == (256, 256)


@pytest.mark.parametrize("head", ["compact", "imagenet"])
def test_saved_and_loaded(tmp_path, head):
    model = trained(vgg16_plan(NARROW[head]))
    save(model, tmp_path / "a.safetensors")
    save(model, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = load(tmp_path / "a.safetensors")
    assert again.plan == model.plan
    assert not again.training
    for name, tensor in model.state_dict().items():
        stored = tensor.half().float() if tensor.dim() > 1 else tensor
        torch.testing.assert_close(again.state_dict()[name], stored, rtol=0, atol=0)


def test_no_network_in_the_file(tmp_path):
    for name, write in {
        "missing": lambda path: None,
        "rubbish": lambda path: path.write_bytes(b"rubbish" * 100),
        "foreign": lambda path: save_file({"x": torch.ones(3)}, path),
        "no_plan": lambda path: save_file({"x": torch.ones(3)}, path, metadata={"plan": '{"features": ["pool"]}'}),
    }.items():
        write(tmp_path / name)
        with pytest.raises(UserError, match=name):
            load(tmp_path / name)


def test_dropout():
    model = VGG(vgg16_plan(NARROW["compact"]))
    set_dropout(model, 0.5)
    images = torch.rand(8, 3, 32, 32)
    assert not torch.equal(model(images), model(images))
    torch.testing.assert_close(model.eval()(images), model(images), rtol=0, atol=0)
