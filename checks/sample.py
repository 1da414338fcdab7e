"""A part of the bundled sample, on which a check trains in seconds."""

import tarfile
from pathlib import Path

from src.data.cifar import LAYOUTS, PIXELS


def cut(sample: Path, folder: Path, train: int, test: int) -> None:
    """Write the first records of each file of the archive ``sample`` to the new ``folder``: ``train`` or ``test``."""
    folder.mkdir()
    with tarfile.open(sample) as archive:
        for member in filter(tarfile.TarInfo.isreg, archive):
            path = folder / Path(member.name).name
            count = test if path.name == LAYOUTS[0].test else train
            path.write_bytes(archive.extractfile(member).read(count * (1 + PIXELS)))
