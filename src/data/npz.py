"""Data sets as NumPy's .npz files: MedMNIST's and those that Keras loads."""

from pathlib import Path

import numpy as np

from src.core.errors import UserError, one_line
from src.data.dataset import Arrays, Dataset
from src.data.prepared import SplitName

LARGEST = 4 << 30  # bytes of all arrays, which are held in memory
FORMS: tuple[dict[SplitName, tuple[str, str]], ...] = (
    {"train": ("x_train", "y_train"), "validation": ("x_val", "y_val"), "test": ("x_test", "y_test")},
    {
        "train": ("train_images", "train_labels"),
        "validation": ("val_images", "val_labels"),
        "test": ("test_images", "test_labels"),
    },
)


def read(source: Path, name: str) -> Dataset:
    """Return the arrays in ``source``; train is needed, validation and test are taken if they are there.

    Raises `UserError` if the file is damaged, too large, or holds other arrays.
    """
    try:
        with np.load(source) as arrays:
            if (size := sum(info.file_size for info in arrays.zip.infolist())) > LARGEST:
                raise ValueError(f"arrays of {size >> 20:,} MiB; at most {LARGEST >> 20:,} MiB can be read")
            if damaged := arrays.zip.testzip():  # NumPy does not read far enough to meet every checksum
                raise ValueError(f"{damaged} has a wrong checksum")
            parts = _parts(arrays)
        return Dataset(str(source), name, None, parts)
    except Exception as error:  # a damaged file can raise almost anything
        raise UserError(f"{source}: {one_line(error)}") from error


def _parts(arrays: np.lib.npyio.NpzFile) -> dict[SplitName, Arrays]:
    for form in FORMS:
        if set(form["train"]) <= set(arrays):
            there = {part: names for part, names in form.items() if names[0] in arrays}
            return {part: _images(arrays[images], arrays[labels]) for part, (images, labels) in there.items()}
    known = " or ".join(", ".join(form["train"]) for form in FORMS)
    raise ValueError(f"holds {', '.join(arrays) or 'nothing'}; expected {known} (and the same of test)")


def _images(images: np.ndarray, labels: np.ndarray) -> Arrays:
    """Return the arrays without axes of length one at the end: gray as a channel, labels in a column."""
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    return Arrays(images, labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels)
