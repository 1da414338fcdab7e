"""The binary files of CIFAR-10: their layout, their checksums, and how to read them.

Source of the layout: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pooch

from src.core.errors import UserError, one_line
from src.data.prepared import CLASSES, Split

RAW = Path("data/raw")
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
FILES = (*TRAIN_FILES, TEST_FILE)
RECORD_BYTES = 1 + 3 * 32 * 32

Edition = Literal["official", "sample", "custom"]
OFFICIAL_SHA256 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
SAMPLE_SHA256 = {
    "data_batch_1.bin": "1c5f9ea0fc1111d586f29115efd3db25eecf7db27b29aaebbe84721446b052cc",
    "data_batch_2.bin": "1ff6b481724f6dd4d0e45abc5a69908df8240eb59d06b4386f60e8a0b6e0bd33",
    "data_batch_3.bin": "58abe1a21b6aae11f861d07d539c5816d4374e828abc5010445aba0c191c6612",
    "data_batch_4.bin": "ea25e1f01851da5455ca82f9e2d91fc561863f74916aeaf27fb02652156d2cda",
    "data_batch_5.bin": "cefdf2fa5ec8ab1a9c29b878e6c61bfe713b3d18e6ab90428e45bd9ec5d44d93",
    "test_batch.bin": "2874326af7bc2185faa47540a6da15a077e5b66659f8e479abb9ab628170fa86",
}


def edition(raw: Path = RAW) -> Edition:
    """Return which edition of CIFAR-10 the six files in ``raw`` are, by their SHA-256.

    Raises `UserError` if one of the files is missing.
    """
    hashes = _sha256(raw)
    if hashes == OFFICIAL_SHA256:
        return "official"
    return "sample" if hashes == SAMPLE_SHA256 else "custom"


def check_sha256(folder: Path, expected: Mapping[str, str], origin: str) -> None:
    """Raise `UserError` if one of the six files in ``folder`` does not have its ``expected`` SHA-256.

    The message begins with ``origin``, which says where the files come from.
    """
    for name, sha256 in _sha256(folder).items():
        if sha256 != expected[name]:
            raise UserError(f"{origin}: {name} has SHA-256 {sha256}; expected {expected[name]}")


def _sha256(folder: Path) -> dict[str, str]:
    try:
        return {name: pooch.file_hash(folder / name, alg="sha256") for name in FILES}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; run `dvc repro download`") from None


def read_records(path: Path) -> np.ndarray:
    """Return the records of one batch file: uint8 [N, 3073], the label first, then the pixels.

    The pixels are the 1,024 red values, then the green ones, then the blue ones, each row by row.
    Raises `UserError` if the file cannot be read, is empty, has an incomplete record, or has a label above 9.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except Exception as error:
        raise UserError(f"{path}: {one_line(error)}") from None
    if content.size == 0 or content.size % RECORD_BYTES:
        raise UserError(f"{path}: {content.size} bytes; expected a whole number of {RECORD_BYTES}-byte records")
    records = content.reshape(-1, RECORD_BYTES)
    if (largest := int(records[:, 0].max())) >= len(CLASSES):
        raise UserError(f"{path}: label {largest} found; labels are 0 to {len(CLASSES) - 1}")
    return records


def read_batch(path: Path) -> Split:
    """Return the images (uint8 [N, 3, 32, 32]) and labels (int64 [N]) of one batch file.

    Raises `UserError` as `read_records` does.
    """
    import torch  # takes seconds, and the stage download does without

    records = read_records(path)
    images = np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32)
    return Split(torch.from_numpy(images), torch.from_numpy(records[:, 0].astype(np.int64)))
