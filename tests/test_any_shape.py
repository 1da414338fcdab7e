"""A VGG11 for images of 48 pixels in five classes, through training, techniques and export; MACs from PyTorch."""

import json

import onnx
import pytest
import torch
from networks import INFO, candidate, vgg
from test_recipe import recipe
from torch.utils.flop_counter import FlopCounterMode

from src.compression.context import Context
from src.data.prepared import Split
from src.export.latency import noise_images
from src.export.onnx import Calibration, export
from src.export.runtime import class_names, input_side, logits, session
from src.network.cost import macs
from src.network.folding import folded
from src.network.inference import predict
from src.network.vgg import load, save
from src.separation.layers import layers
from src.techniques import factorize, prune_channels, small, truncate
from src.training.recipe import Training
from src.training.run import train

SIDE, NAMES = 48, ("a", "b", "c", "d", "é")
INFO_48 = INFO.model_copy(update={"side": SIDE, "classes": NAMES})
PLAN = vgg(depth=11, classes=5, side=SIDE)
RECIPE = recipe(epochs=2, phases=[{"side": 0.5, "epochs": 0.5}], batch_size=20, whiten=True)
TRAINING = Training(**{name: value for name, value in dict(RECIPE).items() if name != "epochs"})


def bright(count):
    """Images whose class is their brightness."""
    labels = torch.arange(count) % 5
    noise = torch.randint(0, 8, (count, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(count))
    return Split((labels.view(-1, 1, 1, 1) * 48 + noise).to(torch.uint8), labels)


@pytest.fixture(scope="module")
def run():
    return train(PLAN, RECIPE, bright(40), bright(20), INFO_48, 0, torch.device("cpu"))


@pytest.fixture(scope="module")
def context(run):
    network = run[0].eval()
    scores = {block.name: 0.9 if block.name == "conv3_2" else 0.5 for block in PLAN.features}
    return Context(
        bright(40), bright(20), 0, candidate(network, pflop_after_root=1e-6), {"csi": scores, "probe": scores}
    )


def counted(network):
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, SIDE, SIDE))
    return counter.get_total_flops() // 2


def test_sides_and_cost_of_training(run):
    network, rows = run
    assert [row["image_size"] for row in rows] == [24, 48]
    assert network(torch.rand(2, 3, SIDE, SIDE)).shape == (2, 5)
    assert macs(network) == counted(network)


def test_saved_and_loaded(run, tmp_path):
    save(run[0], tmp_path / "a", {})
    assert load(tmp_path / "a").plan == PLAN
    assert next(layer.dims for layer in layers(run[0])) == 8 * SIDE**2


def test_techniques_keep_side_and_classes(context):
    root = context.root
    pruning = {"ratio": 0.5, "importance": "taylor", "draw": 0, "ranking": "global", "max_layer_ratio": 0.9}
    pruning |= {"importance_images": 20, "importance_batch": 10, "round_to": 4, "train": TRAINING, "budget": 1}
    made = [
        truncate.apply(root, context, truncate.Settings(by="csi", epsilon=0.002, head_c=0.01)),
        prune_channels.apply(root, context, prune_channels.Settings(**pruning)),
        small.apply(root, context, small.Settings(train=TRAINING, widths=None)),
    ]
    networks = [*(one.network for one in made), factorize.factorized(root.network, 0.5), folded(root.network)]
    for network in networks:
        assert (network.plan.side, network.plan.classes) == (SIDE, 5)
        assert macs(network) == counted(network)
    assert made[0].network.plan.features[-1].name == "conv3_2"
    assert made[2].record.steps[-1].startswith("VGG11 of width 0.125, ")


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_the_file_takes_this_side_gives_these_logits_and_names_the_classes(run, precision, tmp_path):
    network, images, path = folded(run[0]), bright(30).images, tmp_path / "a.onnx"
    calibration = Calibration(images.numpy(), "minmax") if precision == "int8" else None
    export(network, path, precision == "float16", calibration, NAMES)
    runtime = session(path, threads=1)
    assert (input_side(runtime), class_names(runtime)) == (SIDE, [*NAMES])
    assert runtime.run(None, {"images": noise_images(2, SIDE)})[0].shape == (2, 5)
    expected, limit = predict(network, images).numpy(), {"float32": 1e-5, "float16": 1e-2, "int8": 0.2}[precision]
    assert abs(logits(path, images.numpy()) - expected).max() < limit * abs(expected).max()
    onnx.checker.check_model(path)


def test_names_are_all_that_a_file_with_names_has_more(run, tmp_path):
    export(run[0], tmp_path / "with.onnx", classes=NAMES)
    export(run[0], tmp_path / "without.onnx")
    model = onnx.load(tmp_path / "with.onnx")
    assert [(entry.key, json.loads(entry.value)) for entry in model.metadata_props] == [("classes", [*NAMES])]
    del model.metadata_props[:]
    assert model.SerializeToString() == (tmp_path / "without.onnx").read_bytes()
    assert class_names(session(tmp_path / "without.onnx")) is None
