"""Why does CSI fall in the last block? python -m studies.lengths (or: make study NAME=lengths); a minute.

Looks at the pooled features at the end of the last block: how long those of each class are, and how many images
scikit-learn's NearestCentroid classifies correctly with them as they are, and with features of unit length. Writes
studies/results/lengths.csv: a row per class, and a row for all.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize
from torch import Tensor

from src.core.files import write_csv
from src.core.recipes import ROOT
from src.data.prepared import PREPARED, load_info, load_split
from src.network.record import network_path
from src.network.vgg import VGG, load
from src.separation.probe import PooledKeeper
from src.separation.stream import stream
from studies.items import Row, require, run

RESULTS = Path("studies/results/lengths.csv")
TRAIN_IMAGES, VALIDATION_IMAGES = 10_000, 5_000
SEED = 0
POOL = "avgpool"  # the module whose output the head of the network sees


def main() -> None:
    """Write the table."""
    require([network_path(ROOT), PREPARED])
    network = load(network_path(ROOT))
    train = load_split("train").sample(TRAIN_IMAGES, SEED)
    validation = load_split("validation").sample(VALIDATION_IMAGES, SEED)
    centers, scored = (pooled(network, split.images) for split in (train, validation))
    table = rows(centers, train.labels.numpy(), scored, validation.labels.numpy(), load_info().classes)
    write_csv(RESULTS, table)


def pooled(network: VGG, images: Tensor) -> np.ndarray:
    """Return what the head of ``network`` sees of uint8 ``images`` [N, 3, side, side]: float64 [N, channels]."""
    keeper = PooledKeeper(len(images), [POOL])
    stream(network, images, [keeper], [POOL], description="features")
    return keeper.features[POOL].double().numpy()


def rows(
    train: np.ndarray, labels: np.ndarray, validation: np.ndarray, validation_labels: np.ndarray, classes: Sequence[str]
) -> list[Row]:
    """Return median and largest squared length on train, and both accuracies on validation, per class and for all.

    ``train`` [N, D] makes the centers, ``validation`` [M, D] is scored; labels are integers, ``classes`` their names.
    """
    squares = (train**2).sum(1)
    right = NearestCentroid().fit(train, labels).predict(validation) == validation_labels
    at_unit_length = NearestCentroid().fit(normalize(train), labels).predict(normalize(validation))
    table: list[Row] = []
    for name, numbers in [(classes[n], [n]) for n in np.unique(labels)] + [("all", [*np.unique(labels)])]:
        lengths, scored = squares[np.isin(labels, numbers)], np.isin(validation_labels, numbers)
        table.append(
            {
                "class": name,
                "median_squared_length": float(np.median(lengths)),
                "largest_squared_length": float(lengths.max()),
                "accuracy": float(right[scored].mean()),
                "accuracy_unit": float((at_unit_length == validation_labels)[scored].mean()),
            }
        )
    return table


if __name__ == "__main__":
    run(main, __doc__)
