"""Make data/sample/cifar-10-sample.tar.xz from the official bytes: `python -m checks.make_sample PATH`.

PATH is the official archive, or a folder with its six files. The sample has the official layout. It holds the first
500 training records and the first 100 test records of each class, in the official order.
"""

import argparse
import io
import lzma
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from src.core.errors import UserError, exit_cleanly
from src.core.files import atomic
from src.data.cifar10 import TEST_FILE, TRAIN_FILES, edition, read_records
from src.data.fetch import SAMPLE, unpack
from src.data.prepared import rank_in_class

TOP = "cifar-10-batches-bin"
TRAIN_PER_CLASS = 500
TEST_PER_CLASS = 100


def main() -> None:
    """Write the sample; `UserError` if the given path does not hold the official files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="PATH", type=Path)
    source = parser.parse_args().source
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "raw"
        unpack(source, raw)
        if (found := edition(raw)) != "official":
            raise UserError(f"{source}: holds the {found} edition; expected the official files")
        with atomic(SAMPLE) as archive:
            archive.write_bytes(lzma.compress(archived(sample(raw)), preset=9))


def sample(raw: Path) -> dict[str, bytes]:
    """Return the content of the six files of the sample, by name, from the six files in ``raw``."""
    train = first_of_each_class(np.concatenate([read_records(raw / name) for name in TRAIN_FILES]), TRAIN_PER_CLASS)
    test = first_of_each_class(read_records(raw / TEST_FILE), TEST_PER_CLASS)
    parts = np.array_split(train, len(TRAIN_FILES))
    return {name: part.tobytes() for name, part in zip((*TRAIN_FILES, TEST_FILE), (*parts, test), strict=True)}


def first_of_each_class(records: np.ndarray, count: int) -> np.ndarray:
    """Return the first ``count`` records of each class, in their order; ``records`` is uint8 [N, 3073], label first."""
    return records[rank_in_class(records[:, 0]) < count]


def archived(files: dict[str, bytes]) -> bytes:
    """Return a tar archive of ``files``, without the time, the user and the group that made it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{TOP}/{name}")  # time 0, user 0, mode 0644
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


if __name__ == "__main__":
    exit_cleanly(main)
