"""Why does CSI fall in the last block? python -m studies.lengths (or: make study NAME=lengths); a minute.

Looks at the pooled features at the end of the last block: how long those of each class are, and what the accuracy of
scikit-learn's NearestCentroid is with them as they are, and with features of unit length. Writes
studies/results/lengths.csv: a row for each class, and a row for all.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.neighbors import NearestCentroid
from src.compression.record import network_path
from torch import Tensor

from src.compression.candidate import random_images
from src.compression.tree import ROOT
from src.core.errors import exit_cleanly
from src.core.files import write_csv
from src.data.prepared import CLASSES, load_split
from src.network.vgg import VGG, load
from src.separation.probe import PooledKeeper
from src.separation.stream import stream
from studies.items import Row

RESULTS = Path("studies/results/lengths.csv")
IMAGES = {"train": 10_000, "validation": 5_000}
SEED = 0
POOL = "avgpool"  # the module whose output the head of the network sees


def main() -> None:
    """Write the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    network = load(network_path(ROOT))
    features, labels = {}, {}
    for name, count in IMAGES.items():
        images = random_images(load_split(name), count, SEED)
        features[name], labels[name] = pooled(network, images.images), images.labels.numpy()
    write_csv(RESULTS, rows(features["train"], labels["train"], features["validation"], labels["validation"]))


def pooled(network: VGG, images: Tensor) -> np.ndarray:
    """Return what the head of ``network`` sees of uint8 ``images`` [N, 3, 32, 32]: float64 [N, channels]."""
    keeper = PooledKeeper(len(images), [POOL])
    stream(network, images, [keeper], [POOL], description="features")
    return keeper.features[POOL].double().numpy()


def rows(train: np.ndarray, labels: np.ndarray, validation: np.ndarray, validation_labels: np.ndarray) -> list[Row]:
    """Return median and largest squared length on train, and both accuracies on validation, by class and for all.

    ``train`` [N, D] makes the centers, ``validation`` [M, D] is scored; labels are integers.
    """
    squares = (train**2).sum(1)
    right = {
        "accuracy": NearestCentroid().fit(train, labels).predict(validation) == validation_labels,
        "accuracy_unit": NearestCentroid().fit(unit(train), labels).predict(unit(validation)) == validation_labels,
    }
    chosen = {CLASSES[number]: (labels == number, validation_labels == number) for number in np.unique(labels)}
    chosen["all"] = (np.full(len(labels), True), np.full(len(validation_labels), True))
    return [
        {
            "class": name,
            "median_squared_length": float(np.median(squares[seen])),
            "largest_squared_length": float(squares[seen].max()),
            **{column: float(credit[scored].mean()) for column, credit in right.items()},
        }
        for name, (seen, scored) in chosen.items()
    ]


def unit(points: np.ndarray) -> np.ndarray:
    """Return ``points`` [N, D] scaled to length 1."""
    return points / np.linalg.norm(points, axis=1, keepdims=True)


if __name__ == "__main__":
    exit_cleanly(main)
