"""ONNX files: what is shipped, and therefore what is measured.

Every file takes ``images``, float32 [N, 3, 32, 32] in 0..1 (the normalisation is inside), and gives ``logits``,
float32 [N, 10]. It holds the network's own tensors, no stack traces and no paths: the same network exported in
two folders gives the same bytes.
"""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import torch
from onnx.numpy_helper import to_array
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules.common import materialize_reshape_shape_rule
from torch import Tensor

from src.core.dataset import Split
from src.core.errors import UserError
from src.core.files import atomic
from src.network.inference import to_unit
from src.network.vgg import VGG

INPUT, OUTPUT = "images", "logits"
SIDE = 32  # pixels
BATCH = 250  # images at a time, in calibration and prediction
CalibrationName = Literal["minmax", "entropy", "percentile"]
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
QUANTIZED = ["Conv", "Relu", "MaxPool", "ReduceMean", "Reshape", "Gemm"]  # the normalisation stays float32


@dataclass(frozen=True)
class Calibration:
    """How to find the ranges of an int8 file's activations: uint8 ``images`` [N, 3, 32, 32] and the method."""

    images: Tensor
    method: CalibrationName


def export(network: VGG, path: Path, calibration: Calibration | None = None) -> None:
    """Write ``network`` to ``path``: in float32, or in int8 where there is a ``calibration``.

    Raises `UserError` where the file cannot be written.
    """
    model = _graph(network)
    with atomic(path) as temporary:
        if calibration is None:
            onnx.save(model, temporary)
        else:
            _quantize(model, temporary, calibration)


def session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime on the CPU, fully optimised, with ``threads`` threads (0: one a core).

    Raises `UserError` if ``path`` is missing or no ONNX file.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise UserError(f"{path}: not readable as ONNX: {' '.join(str(error).split())[:200]}") from None


def logits(path: Path, images: Tensor) -> np.ndarray:
    """float32 logits [N, 10] that the file gives for uint8 ``images`` [N, 3, 32, 32]."""
    runtime = session(path)
    return np.concatenate([runtime.run([OUTPUT], feed)[0] for feed in _feeds(images)])


def accuracy(path: Path, split: Split) -> float:
    """Share of ``split`` that the file classifies rightly."""
    return float((logits(path, split.images).argmax(1) == split.labels.numpy()).mean())


def nonzero_parameters(network: VGG, path: Path) -> int:
    """Number of learned values of ``network`` that are not zero in its file, where int8 rounds small ones to zero."""
    learned = {name + suffix for name, _ in network.named_parameters() for suffix in ("", "_quantized")}
    stored = (to_array(tensor) for tensor in onnx.load(path).graph.initializer if tensor.name in learned)
    return sum(int(np.count_nonzero(values)) for values in stored)


def _feeds(images: Tensor) -> Iterator[dict[str, np.ndarray]]:
    for batch in images.cpu().split(BATCH):
        yield {INPUT: to_unit(batch).contiguous().numpy()}


def _graph(network: VGG) -> onnx.ModelProto:
    """``network`` as an ONNX model. BatchNorm stays a node where the plan has it: the file says what was done."""
    with _quiet():
        program = torch.onnx.export(
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
    """``model`` without what tells of the Python code it came from."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    return model


def _quantize(model: onnx.ModelProto, path: Path, calibration: Calibration) -> None:
    """Write ``model`` in int8 (QDQ): weights symmetric per channel, activations uint8 per tensor.

    uint8 beside int8 is the pair for which x86 has an instruction (VNNI) and ONNX Runtime a kernel.
    """
    with _quiet():
        quantize_static(
            model,
            path,
            _Reader(calibration.images),
            op_types_to_quantize=QUANTIZED,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[calibration.method],
            extra_options={"CalibStridedMinMax": 1},
        )


class _Reader(CalibrationDataReader):
    """Calibration images in batches; ONNX Runtime asks for one range of batches after the other."""

    def __init__(self, images: Tensor) -> None:
        self.batches = images.split(BATCH)
        self.feeds = iter(())

    def __len__(self) -> int:
        return len(self.batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with these batches, and no more than these."""
        self.feeds = _feeds(torch.cat(self.batches[start_index:end_index]))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, or None after the last."""
        return next(self.feeds, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what exporter and quantiser say of themselves; errors are raised all the same."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
