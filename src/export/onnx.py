"""Writing ONNX files: what is shipped, and therefore what is measured.

Every file takes ``images``, float32 [N, 3, side, side] in 0..1 (the normalization is inside), and gives ``logits``,
float32 [N, classes]. Its metadata may name the classes. It holds the network's own tensors, and no trace of where it
was made: the same network exported in two folders gives the same bytes.
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array, to_array
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from torch import Tensor

from src.core.files import atomic
from src.export.graph import onnx_model
from src.export.runtime import BATCH, CLASSES, batches, feeds
from src.network.vgg import HALF_FROM_DIMENSIONS, VGG

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
QUANTIZED = ["Conv", "Relu", "MaxPool", "ReduceMean", "Reshape", "Gemm"]  # the normalization stays float32


@dataclass(frozen=True)
class Calibration:
    """How to write an int8 file: uint8 ``images`` [N, 3, side, side], and how to find its activations' ranges."""

    images: np.ndarray
    method: Literal["minmax", "entropy", "percentile"]


def export(
    network: VGG,
    path: Path,
    half: bool = False,
    calibration: Calibration | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Write ``network`` to ``path`` in float32; with ``half`` weights in float16; with ``calibration`` in int8.

    The int8 weights of a network on a grid are its integers and its scales. ``classes``: their names, in the order of
    the logits, for the metadata. Raises `UserError` where the file cannot be written.
    """
    model = onnx_model(network)
    if classes is not None:
        model.metadata_props.add(key=CLASSES, value=json.dumps(classes))
    if half:
        _store_half(model.graph, {name for name, _ in network.named_parameters()})
    with atomic(path) as temporary:
        if calibration is None:
            onnx.save(model, temporary)
        else:
            _quantize(model, temporary, calibration, network.scales)


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


def _quantize(model: onnx.ModelProto, path: Path, calibration: Calibration, scales: Mapping[str, Tensor]) -> None:
    """Write ``model`` in int8 (QDQ): weights symmetric per channel, activations uint8 per tensor.

    A weight without ``scales`` gets those that put the largest magnitude of each channel at 127. x86 has an instruction
    for uint8 times int8 (VNNI), and ONNX Runtime a kernel.
    """
    grids = {
        name: [{"axis": 0, "quant_type": QuantType.QInt8, "scale": scale, "zero_point": 0} for scale in own.tolist()]
        for name, own in scales.items()
    }
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
            extra_options={"CalibStridedMinMax": 1, "TensorQuantOverrides": grids},
        )


class _Reader(CalibrationDataReader):
    """Calibration images in batches; ONNX Runtime asks for one range of batches after the other."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.feeds: Iterator[dict[str, np.ndarray]] = iter(())

    def __len__(self) -> int:
        return batches(self.images)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Continue with these batches only."""
        self.feeds = feeds(self.images[start_index * BATCH : end_index * BATCH])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None after the last."""
        return next(self.feeds, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what the quantizer prints and warns; errors are raised all the same."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
