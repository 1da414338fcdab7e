"""The network: torchvision as the oracle, and what a file may hold."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import plan, trained, vgg
from pydantic import ValidationError
from safetensors.torch import save_file
from torchvision_compat import torchvision

from src.core.device import has_amx
from src.core.errors import ParamsError, UserError
from src.network import convolution
from src.network.convolution import convolved_as_strips
from src.network.vgg import VGG, Plan, load, load_with_record, rebuild, save, set_dropout

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
def test_layers_and_names_are_torchvisions_at_every_depth(depth):
    with torch.device("meta"):
        ours, theirs = VGG(vgg(1.0, "imagenet", depth, 7)), getattr(torchvision.models, f"vgg{depth}_bn")(num_classes=7)
    tensors = {name: tensor.shape for name, tensor in ours.state_dict().items() if name not in ("mean", "std")}
    assert tensors == {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    kinds = [type(module) for module in theirs.features]
    assert [isinstance(*pair) for pair in zip(ours.features, kinds, strict=True)] == [True] * len(kinds)
    assert ours.plan.depth == depth


def test_the_head_imagenet_takes_small_images_alone():
    assert vgg(head="imagenet", side=32).pooled_side == 7
    with pytest.raises(ParamsError, match=r"params\.yaml: model\.head: imagenet takes .* 32 pixels \(found 33\)"):
        vgg(head="imagenet", side=33)


def test_plans_from_before_they_had_a_side_are_for_32_pixels():
    before = {name: value for name, value in vgg(side=48).model_dump().items() if name != "side"}
    assert Plan.model_validate(before) == vgg()


def test_normalization_is_inside():
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    plain, inside = VGG(vgg()).eval(), VGG(vgg(), mean, std).eval()
    tensors = plain.state_dict()
    inside.load_state_dict({**tensors, "mean": mean, "std": std})
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(inside(images), plain((images - mean.view(3, 1, 1)) / std.view(3, 1, 1)))


@pytest.mark.parametrize("side", [8, 16, 24, 31, 32])
def test_smaller_images_go_through(side):
    assert VGG(vgg(head="imagenet"))(torch.rand(2, 3, side, side)).shape == (2, 10)


def test_width():
    half = vgg(0.5)
    assert half.widths == (32, 32, 64, 64, *[128] * 3, *[256] * 6, 256, 256)
    assert [block.name for block in half.features[:4]] == ["conv1_1", "conv1_2", "pool1", "conv2_1"]


@pytest.mark.parametrize("head", ["compact", "imagenet"])
def test_saved_and_loaded(tmp_path, head):
    model = trained(vgg(head=head))
    save(model, tmp_path / "a.safetensors", {"x": 1, "y": [2]}, half=True)
    save(model, tmp_path / "b.safetensors", {"x": 1, "y": [2]}, half=True)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again, record = load_with_record(tmp_path / "a.safetensors")
    assert record == {"x": 1, "y": [2]}
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
        "no_plan": lambda path: save_file({"x": torch.ones(3)}, path, metadata={"network": '{"plan": {}}'}),
        "list": lambda path: save_file({"x": torch.ones(3)}, path, metadata={"network": "[1, 2]"}),
    }.items():
        write(tmp_path / name)
        with pytest.raises(UserError, match=name):
            load(tmp_path / name)


def test_dropout():
    model = VGG(vgg())
    set_dropout(model, 0.5)
    images = torch.rand(8, 3, 32, 32)
    assert not torch.equal(model(images), model(images))
    torch.testing.assert_close(model.eval()(images), model(images), rtol=0, atol=0)


def test_float32_is_stored_as_it_is(tmp_path):
    model = trained(plan(4, "pool", head=(5,)))
    save(model, tmp_path / "whole.safetensors", {})
    again = load(tmp_path / "whole.safetensors").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_rebuilt_network_is_a_copy_in_the_same_memory_order():
    model = trained(plan(4, "pool", 8, head=(5,)))
    again = rebuild(Plan.model_validate_json(model.plan.model_dump_json()), model.state_dict())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again(images), model(images), rtol=0, atol=0)
    assert all(
        one.weight.stride() == other.weight.stride()
        for one, other in zip(again.convolutions, model.convolutions, strict=True)
    )
    again.convolutions[0].weight.data.zero_()
    assert model.convolutions[0].weight.any()
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_a_plan_says_where_its_blocks_end_and_takes_other_widths():
    blocks = plan(4, "pool", 8, head=(5,), batch_norm=False)
    assert blocks.module_ends() == [2, 3, 5]
    assert plan(4, "pool", 8, relu=False).module_ends() == [2, 3, 5]
    wider = blocks.with_widths((6, 7, 9))
    assert wider.widths == (6, 7, 9)
    assert [block.name for block in wider.features] == [block.name for block in blocks.features]
    assert not wider.convolutions[0].batch_norm


@pytest.mark.parametrize(("features", "problem"), [([], "at least one convolution"), ([4, 4], "two blocks")])
def test_plans_that_are_no_network_are_refused(features, problem):
    blocks = [{"kind": "conv", "name": "same", "channels": width} for width in features]
    with pytest.raises(ValidationError, match=problem):
        Plan.model_validate({"features": blocks, "head": []})


def test_loading_a_network_does_not_import_pytorchs_compiler(tmp_path):
    save(trained(plan(4, "pool", 8, head=(5,))), tmp_path / "network.safetensors", {})
    check = "; ".join(
        (
            "import sys, pathlib, src.network.vgg, src.network.cost",
            "network = src.network.vgg.load(pathlib.Path(sys.argv[1]))",
            "src.network.cost.macs(network)",
            "print(*{'torch._dynamo', 'torch._inductor', 'sympy'} & sys.modules.keys())",
        )
    )
    command = [sys.executable, "-c", check, tmp_path / "network.safetensors"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "\n"


def test_a_huge_plan_in_a_file_takes_no_memory(tmp_path):
    huge = {"features": [{"kind": "conv", "name": "a", "channels": 65536, "kernel": 31}], "head": []}
    save_file({"x": torch.ones(3)}, tmp_path / "huge", metadata={"network": json.dumps({"plan": huge, "record": {}})})
    with pytest.raises(UserError, match="huge: not a network"):
        load(tmp_path / "huge")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("count", [1, 5, 6])
@pytest.mark.parametrize(("side", "kernel"), [(4, 3), (2, 3), (1, 3), (3, 1), (4, 5)])
def test_maps_in_strips_are_convolved_as_maps_are(side, kernel, count):
    torch.manual_seed(0)
    maps = torch.randn(count, 5, side, side, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 5, kernel, kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(7, dtype=torch.float64, requires_grad=True)
    strips = convolved_as_strips(maps, weight, bias, kernel // 2)
    plain = torch.nn.functional.conv2d(maps, weight, bias, padding=kernel // 2)
    torch.testing.assert_close(strips, plain)
    gradient, inputs = torch.randn_like(plain), (maps, weight, bias)
    torch.testing.assert_close(
        torch.autograd.grad(strips, inputs, gradient), torch.autograd.grad(plain, inputs, gradient)
    )


@pytest.mark.usefixtures("two_threads")
@pytest.mark.skipif(not has_amx(torch.device("cpu")), reason="needs a CPU with AMX")
def test_gradients_of_strips_depend_on_nothing_that_lies_in_memory():
    torch.manual_seed(0)
    maps = torch.randn(100, 16, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(16, 16, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    gradients = []
    for _ in range(10):
        gradients += torch.autograd.grad(convolved_as_strips(maps, weight, None, 1).sum(), weight)
        dirt = [torch.full((2**16,), torch.nan) for _ in range(8)]
        del dirt
    assert all(gradient.equal(gradients[0]) for gradient in gradients)


@pytest.mark.usefixtures("two_threads")
def test_strips_are_taken_where_amx_gains_from_them(monkeypatch):
    taken = []
    monkeypatch.setattr(convolution, "convolved_as_strips", lambda maps, *_: taken.append(maps.shape) or maps)
    for amx in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        for count, side, dtype in itertools.product((2, 3), (8, 4), (torch.bfloat16, torch.float32)):
            convolution.Convolution(4, 4, 3, padding=1).to(dtype)(torch.zeros(count, 4, side, side, dtype=dtype))
    assert taken == [(3, 4, 4, 4)]
