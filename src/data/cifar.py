"""CIFAR-10 and CIFAR-100, binary or pickled for Python.

Source of the layouts: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.core.errors import UserError, one_line
from src.data.dataset import Arrays, Dataset
from src.data.members import Member
from src.data.pickles import load_plain
from src.data.prepared import SplitName

CLASSES: tuple[str, ...] = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 3 * 32 * 32
EDITIONS = {  # of CIFAR-10, by the SHA-256 that `src.data.raw` finds
    "6983ebf07e6c2a815a65a0319d2cd2c42515126a3be20baacaf672084103dee1": "official",
    "36e06ddf6f939b475bdb875e8530decb96b8dbf09ad2fdd235971a5d25481cb1": "sample",
}
Reader = Callable[[bytes], Arrays]


@dataclass(frozen=True)
class Layout:
    """The files of a data set: ``names`` reads the classes from ``meta``, ``read`` the pixels and labels of another."""

    name: str
    train: tuple[str, ...]
    test: str
    meta: str
    names: Callable[[bytes], list[str]]
    read: Reader


def _binary(labels: int) -> Reader:
    """Return the reader of records of so many ``labels``, the last of which counts, and the pixels."""

    def read(content: bytes) -> Arrays:
        size = labels + PIXELS
        if not content or len(content) % size:
            raise ValueError(f"{len(content)} bytes; expected a whole number of {size}-byte records")
        records = np.frombuffer(content, np.uint8).reshape(-1, size)
        return _arrays(records[:, labels:], records[:, labels - 1])

    return read


def _pickled(labels: str) -> Reader:
    """Return the reader of a pickled mapping with ``data`` and, under the name ``labels``, the labels."""

    def read(content: bytes) -> Arrays:
        values = load_plain(content, "data", labels)
        return _arrays(np.asarray(values["data"]), np.asarray(values[labels]))

    return read


def _arrays(pixels: np.ndarray, labels: np.ndarray) -> Arrays:
    """Return ``pixels`` ([N, 3072]: all red values, then green, then blue, each row by row) as images."""
    return Arrays(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels)


def _lines(content: bytes) -> list[str]:
    return [line.strip() for line in content.decode().splitlines() if line.strip()]


def _pickled_names(key: str) -> Callable[[bytes], list[str]]:
    return lambda content: [name if isinstance(name, str) else name.decode() for name in load_plain(content, key)[key]]


BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
LAYOUTS = (
    Layout(
        *("CIFAR-10", tuple(f"{name}.bin" for name in BATCHES), "test_batch.bin"),
        *("batches.meta.txt", _lines, _binary(1)),
    ),
    Layout("CIFAR-10", BATCHES, "test_batch", "batches.meta", _pickled_names("label_names"), _pickled("labels")),
    Layout("CIFAR-100", ("train.bin",), "test.bin", "fine_label_names.txt", _lines, _binary(2)),
    Layout("CIFAR-100", ("train",), "test", "meta", _pickled_names("fine_label_names"), _pickled("fine_labels")),
)


def find(source: Path, files: Sequence[Member]) -> Dataset | None:
    """Return the data set of one of the `LAYOUTS` that lies at the top of ``files`` or one folder below; None without.

    Raises `UserError` if a file is missing, damaged, or there twice, and if there are several such data sets.
    """
    near = [file for file in files if len(file.parts) <= 2]
    found = [layout for layout in LAYOUTS if any(file.parts[-1] in layout.train for file in near)]
    if len(found) > 1:
        raise UserError(
            f"{source}: holds {' and '.join(layout.train[0] for layout in found)}; one data set is expected"
        )
    return _read(source, near, found[0]) if found else None


def _read(source: Path, files: Sequence[Member], layout: Layout) -> Dataset:
    needed = (*layout.train, layout.test)
    names = [file.parts[-1] for file in files]
    if missing := [name for name in needed if name not in names]:
        raise UserError(f"{source}: does not hold {', '.join(missing)}; expected: {', '.join(needed)}")
    if twice := [name for name in (*needed, layout.meta) if names.count(name) > 1]:
        raise UserError(f"{source}: holds {twice[0]} twice")
    read, classes = {}, CLASSES if layout.name == "CIFAR-10" else None
    for file in sorted(files, key=lambda file: file.place):  # the order in which an archive is read fastest
        try:
            if file.parts[-1] in needed:
                read[file.parts[-1]] = layout.read(file.read())
            elif file.parts[-1] == layout.meta:
                classes = tuple(layout.names(file.read()))
        except UserError:
            raise
        except Exception as error:  # a damaged file can raise almost anything
            raise UserError(f"{file.name}: {one_line(error)}") from error
    pieces: dict[SplitName, Sequence[str]] = {"train": layout.train, "test": (layout.test,)}
    parts = {part: _joined([read[name] for name in files]) for part, files in pieces.items()}
    return Dataset(str(source), layout.name, classes, parts)


def _joined(pieces: Sequence[Arrays]) -> Arrays:
    return Arrays(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("images", "labels")))
