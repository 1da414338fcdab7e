"""Running ONNX files by ONNX Runtime on the CPU. Needs no PyTorch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from src.core.errors import UserError, one_line
from src.core.progress import progress

FILES = Path("models/onnx")  # what the stage export writes
TESTED = Path("models/tested")  # what the stage test writes
INPUT, OUTPUT = "images", "logits"
SIDE = 32  # pixels
BATCH = 250  # images at a time


def session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Return a session of ONNX Runtime on the CPU, fully optimized, with ``threads`` threads (0: one per core).

    Raises `UserError` if ``path`` is missing, not an ONNX file, or not a file that turns two images into logits.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised, and not printed as well
    try:
        runtime = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        runtime.run([OUTPUT], {INPUT: np.zeros((2, 3, SIDE, SIDE), np.float32)})
        return runtime
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise UserError(f"{path}: not readable as ONNX: {one_line(error)}") from None


def logits(path: Path, images: np.ndarray, description: str | None = None) -> np.ndarray:
    """Return float32 logits [N, classes] that the file gives for uint8 ``images`` [N, 3, 32, 32].

    With a ``description`` the progress is shown under this name.
    """
    runtime = session(path)
    shown = progress(feeds(images), batches(images), description)
    return np.concatenate([runtime.run([OUTPUT], feed)[0] for feed in shown])


def batches(images: np.ndarray) -> int:
    """Return in how many batches `feeds` divides ``images``."""
    return -(-len(images) // BATCH)


def feeds(images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Yield uint8 ``images`` [N, 3, 32, 32] in batches, as the files take them: float32 in 0..1."""
    for start in range(0, len(images), BATCH):
        yield {INPUT: images[start : start + BATCH].astype(np.float32) / np.float32(255)}
