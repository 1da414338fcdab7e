"""Classify the test images by the ONNX file of one recipe. No other stage of a recipe reads the test set."""

import numpy as np

from src.core.files import write_json
from src.core.params import recipe_name
from src.core.stage import run_stage
from src.data.prepared import load_arrays
from src.export.runtime import FILES, TESTED, logits


def main() -> None:
    """Write the accuracy on test, and the predicted class of each test image as two hexadecimal digits."""
    name = recipe_name("test", __doc__)
    images, labels = load_arrays("test")
    predicted = logits(FILES / f"{name}.onnx", images, f"test {name}").argmax(1)
    accuracy, text = float(np.mean(predicted == labels)), predicted.astype(np.uint8).tobytes().hex()
    write_json(TESTED / f"{name}.json", {"test_accuracy": accuracy, "predicted": text})


if __name__ == "__main__":
    run_stage(main)
