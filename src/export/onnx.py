"""Writing ONNX files: what is shipped, and therefore what is measured.

Every file takes ``images``, float32 [N, 3, 32, 32] in 0..1 (the normalization is inside), and gives ``logits``,
float32 [N, classes]. It holds the network's own tensors, no stack traces and no paths: the same network exported in
two folders gives the same bytes.
"""

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array, to_array
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules.common import materialize_reshape_shape_rule
from torch import nn

from src.core.files import atomic
from src.core.progress import progress
from src.export.runtime import BATCH, INPUT, OUTPUT, SIDE, batches, feeds, logits
from src.network.vgg import HALF_FROM_DIMENSIONS, VGG

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
LOWEST = "lowest"  # the name of the lowest float32 number in an int8 file with layers in float32
QUANTIZED = ["Conv", "Relu", "MaxPool", "ReduceMean", "Reshape", "Gemm"]  # the normalization stays float32


@dataclass(frozen=True)
class Calibration:
    """How to write an int8 file: uint8 ``images`` [N, 3, 32, 32] and the method that find its activations' ranges.

    ``in_float``: the layers, by the names of their modules, that stay in float32.
    """

    images: np.ndarray
    method: Literal["minmax", "entropy", "percentile"]
    in_float: tuple[str, ...] = ()


def export(network: VGG, path: Path, half: bool = False, calibration: Calibration | None = None) -> None:
    """Write ``network`` to ``path`` in float32; with ``half`` weights in float16; with ``calibration`` in int8.

    Raises `UserError` where the file cannot be written.
    """
    model = _graph(network)
    if half:
        _store_half(model.graph, {name for name, _ in network.named_parameters()})
    with atomic(path) as temporary:
        if calibration is None:
            onnx.save(model, temporary)
        else:
            _quantize(model, temporary, calibration)


def most_sensitive(
    network: VGG,
    calibration: Calibration,
    images: np.ndarray,
    labels: np.ndarray,
    count: int,
    description: str | None = None,
) -> tuple[str, ...]:
    """Return the names of the ``count`` layers of ``network`` that lose most in int8, the worst first.

    Each layer alone is written in int8, all others stay in float32; the loss is the cross-entropy of that file on uint8
    ``images`` [N, 3, 32, 32] with ``labels`` int [N]. That of the float32 file, which is common to all, does not
    change the order. Of two equal layers the first in the network is named first. With a ``description`` the progress
    is shown under this name.
    """
    model, layers = _graph(network), layer_names(network)
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.onnx"
        for layer in progress(layers, len(layers), description, "layers"):
            others = tuple(other for other in layers if other != layer)
            _quantize(copy.deepcopy(model), path, replace(calibration, in_float=others))  # it takes the tensors away
            losses[layer] = float(F.cross_entropy(torch.from_numpy(logits(path, images)), torch.from_numpy(labels)))
    return tuple(sorted(layers, key=losses.__getitem__, reverse=True)[:count])


def layer_names(network: VGG) -> dict[str, str]:
    """Return the names of the modules with filters or matrices, in order, each with the name of its block in the plan.

    The last layer is no block of the plan and is called ``last``: features.0 is conv1_1, ..., classifier.6 is last.
    """
    modules = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    plan = network.plan
    blocks = [*(block.name for block in plan.convolutions), *(block.name for block in plan.head)]
    return dict(zip(modules, [*blocks, "last"], strict=True))


def nonzero_parameters(network: VGG, path: Path) -> int:
    """Return how many learned values of ``network`` are not zero in its file; int8 rounds small ones to zero.

    Raises ValueError if the file lacks one of the network's parameters.
    """
    stored = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    count = 0
    for name, _ in network.named_parameters():
        tensor = stored.get(name, stored.get(f"{name}_quantized"))
        if tensor is None:
            raise ValueError(f"{path}: holds no parameter {name}")
        count += int(np.count_nonzero(to_array(tensor)))
    return count


def _graph(network: VGG) -> onnx.ModelProto:
    """Return ``network`` as an ONNX model. BatchNorm stays a node where the plan has it."""
    with _quiet():
        program: torch.onnx.ONNXProgram = torch.onnx.export(  # type: ignore[assignment]  # None only without dynamo
            copy.deepcopy(network).cpu().eval(),
            (torch.zeros(2, 3, SIDE, SIDE),),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            dynamo=True,
            optimize=False,
            verbose=False,
        )
        optimizer.fold_constants(program.model)
        rewriter.rewrite(program.model, [materialize_reshape_shape_rule])
    model = _stripped(program.model_proto)
    onnx.checker.check_model(model, full_check=True)
    return model


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``model`` without what tells of the Python code it came from."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    return model


def _store_half(graph: onnx.GraphProto, learned: set[str]) -> None:
    """Store the ``learned`` matrices and filter banks in float16; a Cast makes each float32 again when it is loaded."""
    casts = []
    for tensor in graph.initializer:
        if tensor.name not in learned or len(tensor.dims) < HALF_FROM_DIMENSIONS:
            continue
        name, widened = tensor.name, f"{tensor.name}_float32"
        for node in graph.node:
            node.input[:] = [widened if given == name else given for given in node.input]
        tensor.CopyFrom(from_array(to_array(tensor).astype(np.float16), name))
        casts.append(helper.make_node("Cast", [name], [widened], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _quantize(model: onnx.ModelProto, path: Path, calibration: Calibration) -> None:
    """Write ``model`` in int8 (QDQ): weights symmetric per channel, activations uint8 per tensor.

    x86 has an instruction for uint8 times int8 (VNNI), and ONNX Runtime a kernel. A layer that stays in float32 has
    its weights, its products and its result in float32; what it reads may come rounded from the layer before.
    """
    in_float = _shielded(model.graph, {f"{layer}.weight" for layer in calibration.in_float})
    with _quiet():
        quantize_static(
            model,
            path,
            _Reader(calibration.images),
            op_types_to_quantize=QUANTIZED,
            nodes_to_exclude=in_float,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[calibration.method],
            extra_options={"CalibStridedMinMax": 1},
        )


def _shielded(graph: onnx.GraphProto, weights: set[str]) -> list[str]:
    """Let the nodes of ``graph`` that read ``weights`` give their result to a Max with the lowest number; return them.

    Max changes no value. Without it ONNX Runtime, when it loads the file, would quantize the weights after all, with
    one scale a layer: its optimizer WeightBiasQuantization looks for a layer between two quantized tensors.
    """
    kept = [node for node in graph.node if weights & set(node.input)]
    if kept:
        graph.initializer.append(from_array(np.array(np.finfo(np.float32).min), LOWEST))
    for node in kept:
        (result,) = node.output
        node.output[:] = [f"{result}_float"]
        position = list(graph.node).index(node) + 1
        graph.node.insert(position, helper.make_node("Max", [*node.output, LOWEST], [result], f"{node.name}_max"))
    return [node.name for node in kept]


class _Reader(CalibrationDataReader):
    """Calibration images in batches; ONNX Runtime asks for one range of batches after the other."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.feeds: Iterator[dict[str, np.ndarray]] = iter(())

    def __len__(self) -> int:
        return batches(self.images)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with these batches, and no more than these."""
        self.feeds = feeds(self.images[start_index * BATCH : end_index * BATCH])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None after the last."""
        return next(self.feeds, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what the exporter and the quantizer print and warn; errors are raised all the same."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
