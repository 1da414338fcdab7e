"""Running ONNX files by ONNX Runtime on the CPU. Needs no PyTorch."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from src.core.cpu import cpu_info
from src.core.errors import UserError, one_line
from src.core.progress import progress
from src.export.decode import MAGIC, decode

FILES = Path("models/onnx")  # what the stage export writes
TESTED = Path("models/tested")  # what the stage test writes
INPUT, OUTPUT = "images", "logits"
CLASSES = "classes"  # the key of the metadata with the names of the classes, a JSON list
MAX_SIDE = 1024  # pixels, of the images that a file takes, so that a damaged one cannot ask for all memory
BATCH = 250  # images at a time
VNNI = {"avx512_vnni", "avx_vnni"}  # flags of Linux: with either, x86 adds products of eight bits in int32, not int16
EXACT_INT8 = "session.x64quantprecision"  # an option of ONNX Runtime: kernels that do not overflow


def session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Return a session of ONNX Runtime on the CPU, fully optimized, with ``threads`` threads (0: one per core).

    On x86 without VNNI, int8 files take slower kernels, because the others overflow. A coded file is decoded in memory.
    Raises `UserError` if ``path`` is missing, neither an ONNX file nor a coded one, damaged, or not a file that turns
    two images into logits.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised, and not printed as well
    if not VNNI & set(cpu_info("flags").split()):
        options.add_session_config_entry(EXACT_INT8, "1")
    try:
        content = _onnx(path)
        runtime = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        side = input_side(runtime)
        runtime.run([OUTPUT], {INPUT: np.zeros((2, 3, side, side), np.float32)})
        class_names(runtime)  # fails if they are damaged
        return runtime
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise UserError(f"{path}: not readable as ONNX: {one_line(error)}") from None


def _onnx(path: Path) -> Path | bytes:
    """Return ``path``, or the ONNX file in it if it is a coded file; ValueError if that is damaged."""
    with path.open("rb") as file:
        is_coded = file.read(len(MAGIC)) == MAGIC
    return decode(path.read_bytes()) if is_coded else path


def input_side(runtime: onnxruntime.InferenceSession) -> int:
    """Return the side in pixels of the images that ``runtime`` takes; ValueError if its input has another form."""
    shape = runtime.get_inputs()[0].shape
    side = shape[-1]
    if shape[1:] != [3, side, side] or not isinstance(side, int) or not 0 < side <= MAX_SIDE:
        raise ValueError(f"its input has the shape {shape}; expected [N, 3, side, side], at most {MAX_SIDE} pixels")
    return side


def class_names(runtime: onnxruntime.InferenceSession) -> list[str] | None:
    """Return the names of the classes in the metadata of ``runtime``, in the order of the logits; None if it has none.

    Raises ValueError if they are no list of names, one for each logit.
    """
    text = runtime.get_modelmeta().custom_metadata_map.get(CLASSES)
    if text is None:
        return None
    names, wanted = json.loads(text), runtime.get_outputs()[0].shape[-1]
    if not isinstance(names, list) or len(names) != wanted or not all(isinstance(name, str) for name in names):
        raise ValueError(f"its metadata {CLASSES} must be a list of {wanted} names (found {text:.80})")
    return names


def logits(path: Path, images: np.ndarray, description: str | None = None) -> np.ndarray:
    """Return float32 logits [N, classes] that the file gives for uint8 ``images`` [N, 3, side, side].

    With a ``description`` the progress is shown under this name.
    """
    runtime = session(path)
    shown = progress(feeds(images), batches(images), description)
    return np.concatenate([runtime.run([OUTPUT], feed)[0] for feed in shown])


def batches(images: np.ndarray) -> int:
    """Return in how many batches `feeds` divides ``images``."""
    return -(-len(images) // BATCH)


def feeds(images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Yield uint8 ``images`` [N, 3, side, side] in batches, as the files take them: float32 in 0..1."""
    for start in range(0, len(images), BATCH):
        yield {INPUT: images[start : start + BATCH].astype(np.float32) / np.float32(255)}
