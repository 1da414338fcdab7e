"""CIFAR-10 and CIFAR-100, binary or pickled for Python.

Source of the layouts: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from collections.abc import Sequence
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
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))


@dataclass(frozen=True)
class Layout:
    """The files of a data set: of images, and ``meta`` with the names of the classes.

    A binary record has so many ``labels``, of which the last counts, and the pixels. A pickle has its labels under the
    name ``key`` with an s.
    """

    name: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: int = 0
    key: str = ""


LAYOUTS = (
    Layout("CIFAR-10", tuple(f"{name}.bin" for name in BATCHES), "test_batch.bin", "batches.meta.txt", labels=1),
    Layout("CIFAR-10", BATCHES, "test_batch", "batches.meta", key="label"),
    Layout("CIFAR-100", ("train.bin",), "test.bin", "fine_label_names.txt", labels=2),
    Layout("CIFAR-100", ("train",), "test", "meta", key="fine_label"),
)


def find(source: Path, files: Sequence[Member]) -> Dataset | None:
    """Return the data set of one of the `LAYOUTS` that lies at the top of ``files`` or one folder below; None without.

    Raises `UserError` if a file is missing, damaged, or there twice, and if there are several such data sets.
    """
    near = [file for file in files if len(file.parts) <= 2]
    found = [layout for layout in LAYOUTS if any(file.parts[-1] in layout.train for file in near)]
    if len(found) > 1:
        both = " and ".join(layout.train[0] for layout in found)
        raise UserError(f"{source}: holds {both}; one data set is expected")
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
                read[file.parts[-1]] = _images(layout, file.read())
            elif file.parts[-1] == layout.meta:
                classes = _names(layout, file.read())
        except UserError:
            raise
        except Exception as error:  # a damaged file can raise almost anything
            raise UserError(f"{file.name}: {one_line(error)}") from error
    pieces: dict[SplitName, Sequence[str]] = {"train": layout.train, "test": (layout.test,)}
    parts = {part: _joined([read[name] for name in files]) for part, files in pieces.items()}
    return Dataset(str(source), layout.name, classes, parts)


def _images(layout: Layout, content: bytes) -> Arrays:
    """Return the images in a file; its pixels are all red values, then the green and the blue ones, row by row."""
    if layout.key:
        values = load_plain(content, "data", f"{layout.key}s")
        pixels, labels = np.asarray(values["data"]), np.asarray(values[f"{layout.key}s"])
    else:
        size = layout.labels + PIXELS
        if not content or len(content) % size:
            raise ValueError(f"{len(content)} bytes; expected a whole number of {size}-byte records")
        records = np.frombuffer(content, np.uint8).reshape(-1, size)
        pixels, labels = records[:, layout.labels :], records[:, layout.labels - 1]
    return Arrays(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels)


def _names(layout: Layout, content: bytes) -> tuple[str, ...]:
    if not layout.key:
        return tuple(line.strip() for line in content.decode().splitlines() if line.strip())
    names = load_plain(content, key := f"{layout.key}_names")[key]
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


def _joined(pieces: Sequence[Arrays]) -> Arrays:
    images, labels = [piece.images for piece in pieces], [piece.labels for piece in pieces]
    return Arrays(np.concatenate(images), np.concatenate(labels))
