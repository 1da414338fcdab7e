"""Classify a picture with the flagship, or another ONNX or coded file: python -m scripts.predict PICTURE."""

import argparse
from pathlib import Path
from statistics import median

import numpy as np
from scipy.special import softmax

from src.core.errors import exit_cleanly
from src.data.cifar import CLASSES
from src.data.pictures import read_picture, scaled
from src.export.latency import THREADS, cpu_name, milliseconds
from src.export.runtime import class_names, input_side, session

MODEL = Path("released/flagship.onnx")
SHOWN = 3
RUNS = 20


def main() -> None:
    """Print the three most probable classes with their probabilities, and the time it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path, help="any picture file; its central square counts")
    coded = MODEL.with_suffix(".coded")
    default = coded if coded.exists() else MODEL
    parser.add_argument("--model", type=Path, default=default, help=f"an ONNX or coded file (default: {default})")
    given = parser.parse_args()
    network = session(given.model, THREADS)
    batch = prepare(given.picture, input_side(network))
    names = class_names(network) or CLASSES  # files from before the classes were named are of CIFAR-10
    (logits,) = network.run(None, {"images": batch})
    probabilities = softmax(logits[0])
    for index in np.argsort(-probabilities)[:SHOWN]:
        print(f"{names[index]:<10} {probabilities[index]:7.2%}")
    time = median(milliseconds(lambda: network.run(None, {"images": batch})) for _ in range(RUNS))
    print(f"{time:.2f} ms (median of {RUNS} runs, {THREADS} thread of {cpu_name()}, {given.model})")


def prepare(path: Path, side: int = 32) -> np.ndarray:
    """Return the picture in ``path`` as float32 [1, 3, side, side] in 0..1; `UserError` if it cannot be read as one.

    Its central square counts.
    """
    square = scaled(read_picture(path, str(path)), side, "crop")
    return np.asarray(square, dtype=np.float32).transpose(2, 0, 1)[None] / 255


if __name__ == "__main__":
    exit_cleanly(main)
