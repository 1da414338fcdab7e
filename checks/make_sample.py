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
from src.data.cifar import LAYOUTS, PIXELS
from src.data.fetch import SAMPLE, DownloadSettings, fetch
from src.data.prepared import SplitName, load_arrays, rank_in_class

TOP = "cifar-10-batches-bin"
TRAIN_FILES, TEST_FILE = LAYOUTS[0].train, LAYOUTS[0].test
FILES = (*TRAIN_FILES, TEST_FILE)
RECORD_BYTES = 1 + PIXELS
TRAIN_PER_CLASS = 500
TEST_PER_CLASS = 100


def main() -> None:
    """Write the sample; `UserError` if the given path does not hold the official files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="PATH")
    source = parser.parse_args().source
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "raw"
        info, _ = fetch(DownloadSettings(source="path", path=source, side=32, fit="stretch", unreadable="stop"), raw)
        if info.edition != "official":
            raise UserError(f"{source}: holds the edition {info.edition}; expected the official one")
        with atomic(SAMPLE) as archive:
            archive.write_bytes(lzma.compress(archived(sample(raw)), preset=9))


def sample(raw: Path) -> dict[str, bytes]:
    """Return the content of the six files of the sample, by name, from the images in ``raw``."""
    train = first_of_each_class(records("train", raw), TRAIN_PER_CLASS)
    test = first_of_each_class(records("test", raw), TEST_PER_CLASS)
    parts = np.array_split(train, len(TRAIN_FILES))
    return {name: part.tobytes() for name, part in zip(FILES, (*parts, test), strict=True)}


def records(name: SplitName, raw: Path) -> np.ndarray:
    """Return the records of one split of the folder ``raw``: uint8 [N, 3073], the label first."""
    images, labels = load_arrays(name, raw)
    return np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1)


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


def cut(sample: Path, folder: Path, train: int, test: int) -> None:
    """Write the first records of each file of the archive ``sample`` to the new ``folder``: ``train`` or ``test``."""
    folder.mkdir()
    with tarfile.open(sample) as archive:
        for member in filter(tarfile.TarInfo.isreg, archive):
            path = folder / Path(member.name).name
            count = test if path.name == TEST_FILE else train
            path.write_bytes(archive.extractfile(member).read(count * RECORD_BYTES))


if __name__ == "__main__":
    exit_cleanly(main)
