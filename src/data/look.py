"""Find out what lies at a path, by looking at its content."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from src.core.errors import UserError
from src.data import cifar, folder, npz
from src.data.dataset import Dataset
from src.data.members import members


@contextlib.contextmanager
def opened(source: Path) -> Iterator[Dataset]:
    """Give the data set at ``source``, whose files stay open until the end; `UserError` if there is none.

    It is an .npz file; or a folder, tar or zip with CIFAR-10, CIFAR-100 or a folder of pictures for each class.
    """
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    place = source.resolve().name
    name = place.split(".")[0] or place
    with members(source) as files:
        if source.is_file() and files and all(file.parts[-1].endswith(".npy") for file in files):
            yield npz.read(source, name)
        else:
            yield cifar.find(source, files) or folder.find(source, name, files)
