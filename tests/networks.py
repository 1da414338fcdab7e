"""Networks and images for tests."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from src.compression.candidate import Candidate
from src.data.prepared import DatasetInfo, Split
from src.network.record import Record
from src.network.vgg import VGG, Conv, Hidden, ModelSettings, Plan, Pool, vgg_plan

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
INFO = DatasetInfo(
    name="CIFAR-10",
    edition="sample",
    classes=CLASSES,
    side=32,
    images={"train": 80, "validation": 20, "test": 20},
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
)


def plan(*features, head=(), pooled_side=1, **convolution):
    """A plan of convolutions, given by their channels, and pools, given as "pool"; ``convolution`` holds for all."""
    blocks = [
        Pool(name=f"pool{i}") if block == "pool" else Conv(name=f"conv{i}", channels=block, **convolution)
        for i, block in enumerate(features)
    ]
    hidden = [Hidden(name=f"hidden{i}", width=width) for i, width in enumerate(head)]
    return Plan(features=blocks, head=hidden, pooled_side=pooled_side)


def vgg(width=0.125, head="compact", depth=16, classes=10, side=32):
    """The plan of a narrow VGG16, or of another one."""
    return vgg_plan(ModelSettings(depth=depth, head=head, width=width), classes, side)


def trained(plan):
    """A network whose normalization and BatchNorm statistics are not those of a new one."""
    return randomized(VGG(plan, torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])))


def randomized(network):
    """``network`` with random weights and statistics of BatchNorm, for inference."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
    return network.eval()


def colors(count):
    """Images whose class is their brightness: any layer separates them."""
    labels = torch.arange(count) % 10
    noise = torch.randint(0, 8, (count, 3, 32, 32), generator=torch.Generator().manual_seed(count))
    return Split((labels.view(-1, 1, 1, 1) * 24 + noise).to(torch.uint8), labels)


def candidate(network, **record):
    """A network and its record, which says what ``record`` says."""
    return Candidate(network, Record(edition="sample", **record))


def constant_network(path, logits, side=32, names=None):
    """Write an ONNX network that gives ``logits`` [K] for one image, whatever it shows; ``names`` are its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    matrix = np.zeros((3 * side**2, len(logits)), np.float32)
    weights = [numpy_helper.from_array(matrix, "w"), numpy_helper.from_array(logits, "b")]
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, side, side])
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(logits)])
    graph = helper.make_graph(nodes, "constant", [images], [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {} if names is None else {"classes": names})
    onnx.save(model, path)
