"""The bytes of CIFAR-10: layout, identity, fetching, reading and splitting (https://www.cs.toronto.edu/~kriz/cifar.html)."""

from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from src.dataset import CLASSES, Split, SplitName, Statistics
from src.errors import UserError

TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
FILES = (*TRAIN_FILES, TEST_FILE)
IMAGE_SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32


def read_records(path: Path) -> Split:
    """One batch file: records of 1 label byte and 3,072 bytes of red, green and blue planes, row-major.

    Returns images uint8 [N, 3, 32, 32] and labels int64 [N]. Raises `UserError` if the file is missing,
    is no whole number of records, or holds a label over 9.
    """
    try:
        records = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if records.size == 0 or records.size % RECORD_BYTES:
        raise UserError(f"{path}: {records.size} bytes; expected a whole number of {RECORD_BYTES}-byte records")
    records = records.reshape(-1, RECORD_BYTES)
    if (worst := int(records[:, 0].max())) >= len(CLASSES):
        raise UserError(f"{path}: label {worst} found; labels are 0 to {len(CLASSES) - 1}")
    images = np.ascontiguousarray(records[:, 1:]).reshape(-1, *IMAGE_SHAPE)
    return Split(torch.from_numpy(images), torch.from_numpy(records[:, 0].astype(np.int64)))


def split(raw: Path, validation_fraction: float, seed: int) -> dict[SplitName, Split]:
    """Train, validation and test from the six files in ``raw``; validation is stratified by class.

    Raises `UserError` if a class is too rare to stand in both parts.
    """
    parts = [read_records(raw / name) for name in TRAIN_FILES]
    whole = Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
    try:
        train, validation = train_test_split(
            np.arange(len(whole)), test_size=validation_fraction, stratify=whole.labels.numpy(), random_state=seed
        )
    except ValueError as error:
        raise UserError(f"{raw}: cannot hold out {validation_fraction:.0%} by class: {error}") from None
    chosen = {"train": torch.from_numpy(train), "validation": torch.from_numpy(validation)}
    return {name: whole[index.sort().values] for name, index in chosen.items()} | {
        "test": read_records(raw / TEST_FILE)
    }


def statistics(train: Split, edition: str) -> Statistics:
    """Mean and standard deviation of each channel over all pixels of ``train``, in 0..1, in float64."""
    channels = train.images.permute(1, 0, 2, 3).reshape(3, -1).double() / 255
    mean, std = channels.mean(1), channels.std(1, correction=0)
    return Statistics(edition, *(tuple(round(float(value), 8) for value in pair) for pair in (mean, std)))
