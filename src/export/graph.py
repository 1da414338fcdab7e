"""A network as an ONNX graph, written node by node.

Nodes are named as the modules that they stand for, initializers as parameters and buffers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array
from torch import nn

from src.export.runtime import INPUT, OUTPUT
from src.network.vgg import VGG, MeanPool

OPSET = 20
IR_VERSION = 10  # ONNX Runtime reads it since 1.18
REPEATS, AXES, SHAPE = "avgpool.repeats", "avgpool.axes", "flat.shape"


@dataclass(frozen=True)
class _Step:
    """A node that takes the result of the node before it, then the initializers ``constants``."""

    operator: str
    name: str
    constants: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


def onnx_model(network: VGG) -> onnx.ModelProto:
    """Return ``network``, as it computes in evaluation mode, as an ONNX model: images in 0..1 -> logits.

    BatchNorm stays a node where the plan has it.
    """
    steps = [*_steps(network)]
    results = [*(step.name for step in steps[:-1]), OUTPUT]
    nodes = [
        helper.make_node(step.operator, [given, *step.constants], [result], step.name, **step.attributes)
        for step, (given, result) in zip(steps, pairwise([INPUT, *results]), strict=True)
    ]
    plan = network.plan
    images = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", 3, plan.side, plan.side])
    logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", plan.classes])
    initializers = [from_array(values, name) for name, values in _constants(network).items()]
    return helper.make_model(
        helper.make_graph(nodes, "VGG", [images], [logits], initializers),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )


def _steps(network: VGG) -> Iterator[_Step]:
    """Yield the nodes in order; dropout has none."""
    yield _Step("Sub", "centered", ("mean",))
    yield _Step("Div", "normalized", ("std",))
    for name, module in network.named_modules():
        learned = (f"{name}.weight", f"{name}.bias")
        match module:
            case nn.Conv2d():
                shape = {"kernel_shape": module.kernel_size, "pads": 2 * module.padding}
                yield _Step("Conv", name, learned, shape)
            case nn.BatchNorm2d():
                measured = (f"{name}.running_mean", f"{name}.running_var")
                yield _Step("BatchNormalization", name, learned + measured, {"epsilon": module.eps})
            case nn.ReLU():
                yield _Step("Relu", name)
            case nn.MaxPool2d():
                yield _Step("MaxPool", name, (), {"kernel_shape": (2, 2), "strides": (2, 2), "ceil_mode": 1})
            case MeanPool():
                yield _Step("ReduceMean", name, (AXES,))
                if module.side > 1:
                    yield _Step("Expand", "repeated", (REPEATS,))
                yield _Step("Reshape", "flat", (SHAPE,))
            case nn.Linear():
                yield _Step("Gemm", name, learned, {"transB": 1})


def _constants(network: VGG) -> dict[str, np.ndarray]:
    """Return the initializers: parameters and buffers in float32, then the shapes of the pool.

    The scales of a grid are left out: the weights hold them.
    """
    tensors = {
        name: tensor.cpu().numpy()
        for name, tensor in network.state_dict().items()
        if tensor.dim() and not name.endswith(".scale")
    }
    for name in ("mean", "std"):
        tensors[name] = tensors[name].reshape(3, 1, 1)
    side = network.plan.pooled_side
    if side > 1:
        tensors[REPEATS] = np.array([1, 1, side, side])
    return tensors | {AXES: np.array([2, 3]), SHAPE: np.array([0, -1])}  # 0: as it is, -1: all the rest
