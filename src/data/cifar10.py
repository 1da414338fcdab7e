"""The bytes of CIFAR-10: layout, identity, fetching, reading and splitting (https://www.cs.toronto.edu/~kriz/cifar.html)."""

import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import numpy as np
import pandas as pd
import pooch
import torch
from pydantic import Field
from sklearn.model_selection import train_test_split

from src.core.dataset import CLASSES, Split, SplitName, Statistics
from src.core.errors import UserError
from src.core.files import atomic
from src.core.params import Settings

RAW = Path("data/raw")
SAMPLE = Path("data/sample/cifar-10-sample.tar.xz")
LOCAL_COPY = "CIFAR10_ARCHIVE"

TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
FILES = (*TRAIN_FILES, TEST_FILE)
IMAGE_SHAPE = (3, 32, 32)
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
WAYS_OUT = f"""Three ways out:
  retry       run the same command again
  local copy  set {LOCAL_COPY}=/path/to/cifar-10-binary.tar.gz, or download.source to that path
  sample      set download.source to sample, the 6,000 images bundled with the project"""


class DownloadSettings(Settings):
    """The section ``download`` of params.yaml."""

    source: str = Field(min_length=1)


class SplitSettings(Settings):
    """The section ``split`` of params.yaml."""

    validation_fraction: float = Field(gt=0, lt=1)
    pictured: int = Field(ge=1, le=20)


@dataclass(frozen=True)
class Site:
    """Where an archive lies, its MD5, seconds without a byte after which it counts as stalled, and further tries."""

    url: str
    md5: str
    timeout: float = 30
    retries: int = 3


OFFICIAL_SITE = Site("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")


def fetch(source: str, raw: Path, site: Site = OFFICIAL_SITE) -> None:
    """Make ``raw`` a folder of exactly the six batch files of ``source``, or leave it as it was.

    ``source`` is ``official`` (from ``site``, or from the local copy that the environment variable
    CIFAR10_ARCHIVE names), ``sample``, or the path of a .tar.gz, a .tar.xz or a folder. The official bytes
    and the sample's are verified by SHA-256. Raises `UserError`, with three ways out, if they cannot be had.
    """
    try:
        with atomic(raw) as folder:
            if source == "official":
                _fetch_official(folder, site)
            elif source == "sample":
                unpack(SAMPLE, folder)
                _verify(folder, SAMPLE_SHA256, str(SAMPLE))
            else:
                unpack(Path(source), folder)
    except UserError as error:
        raise UserError(f"{error}\n{WAYS_OUT}") from error


def _fetch_official(folder: Path, site: Site) -> None:
    if local_copy := os.environ.get(LOCAL_COPY):
        origin = f"{LOCAL_COPY}={local_copy}"
        if not Path(local_copy).exists():
            raise UserError(f"{origin}: no such file or folder")
        unpack(Path(local_copy), folder)
    else:
        origin = site.url
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder.parent) as scratch:
            unpack(download(site, Path(scratch)), folder)
    _verify(folder, OFFICIAL_SHA256, origin)


def download(site: Site, folder: Path) -> Path:
    """Fetch the archive of ``site`` into ``folder``, with a progress bar; its path.

    Raises `UserError` if the site cannot be reached, stalls, sends other bytes than ``site.md5``, or the disk is full.
    """
    base, name = site.url.rsplit("/", 1)
    store = pooch.create(folder, f"{base}/", registry={name: f"md5:{site.md5}"}, retry_if_failed=site.retries)
    downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16, timeout=site.timeout)
    try:
        return Path(store.fetch(name, downloader=downloader))
    except (OSError, ValueError) as error:
        raise UserError(f"{site.url}: cannot be downloaded: {_reason(error)}") from error


def unpack(source: Path, folder: Path) -> None:
    """Write the six batch files of ``source``, a tar archive or a folder, to the new ``folder``, and nothing else.

    Raises `UserError` if ``source`` is missing or damaged, lacks one of the six, has one twice, or is an archive
    with anything but plain files and folders inside it.
    """
    folder.mkdir()
    try:
        for name, content in _batch_files(source):
            if (folder / name).exists():
                raise UserError(f"{source}: holds {name} twice")
            with (folder / name).open("wb") as target:
                shutil.copyfileobj(content, target)
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{source}: cannot be unpacked: {_reason(error)}") from error
    if missing := [name for name in FILES if not (folder / name).exists()]:
        raise UserError(f"{source}: holds no {', '.join(missing)}; expected: {', '.join(FILES)}")


def _batch_files(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each batch file in ``source``, at its top or one folder below."""
    if not source.is_dir():
        yield from _archived_batch_files(source)
        return
    for path in sorted([*source.glob("*.bin"), *source.glob("*/*.bin")]):
        if path.name in FILES:
            with path.open("rb") as content:
                yield path.name, content


def _archived_batch_files(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    # Members are only read, never extracted: where their paths and links point can have no effect.
    with tarfile.open(source) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
                raise UserError(f"{source}: {member.name}: expected nothing but plain files and folders inside")
            if path.name in FILES and len(path.parts) <= 2 and (content := archive.extractfile(member)):
                yield path.name, content
        while archive.fileobj.read(1 << 20):  # the checksum of the compressed stream stands after the last member
            pass


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def _verify(folder: Path, expected: Mapping[str, str], origin: str) -> None:
    for name, found in _sha256(folder).items():
        if found != expected[name]:
            raise UserError(f"{origin}: {name} has SHA-256 {found}; expected {expected[name]}")


def edition(raw: Path = RAW) -> Edition:
    """Which edition of CIFAR-10 the six files in ``raw`` are, by their SHA-256; `UserError` if one is missing."""
    found = _sha256(raw)
    if found == OFFICIAL_SHA256:
        return "official"
    return "sample" if found == SAMPLE_SHA256 else "custom"


def _sha256(folder: Path) -> dict[str, str]:
    try:
        return {name: pooch.file_hash(folder / name, alg="sha256") for name in FILES}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; run `dvc repro download`") from None


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


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """For each of ``labels`` [N], how many before it are the same (int64 [N])."""
    return pd.Series(labels).groupby(labels).cumcount().to_numpy()


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
