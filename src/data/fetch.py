"""Get the batch files of CIFAR-10: from the official site, from a local copy, or from the bundled sample."""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import pooch
from pydantic import Field

from src.core.errors import UserError, one_line
from src.core.files import atomic
from src.core.params import Settings
from src.data.cifar10 import FILES, OFFICIAL_SHA256, SAMPLE_SHA256, check_sha256

SAMPLE = Path("data/sample/cifar-10-sample.tar.xz")
LOCAL_COPY = "CIFAR10_ARCHIVE"
WAYS_OUT = f"""Three ways out:
  retry       run the same command again
  local copy  set {LOCAL_COPY}=/path/to/cifar-10-binary.tar.gz, or download.source to that path
  sample      set download.source to sample, the 6,000 images bundled with the project"""


class DownloadSettings(Settings):
    """The section ``download`` of params.yaml."""

    source: str = Field(min_length=1)


@dataclass(frozen=True)
class Site:
    """The address of an archive, its MD5, and how to download it.

    ``timeout``: seconds without a byte after which a download is given up. ``retries``: attempts after the first.
    """

    url: str
    md5: str
    timeout: float = 30
    retries: int = 3


OFFICIAL_SITE = Site("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")


def fetch(source: str, raw: Path, site: Site = OFFICIAL_SITE) -> None:
    """Put exactly the six batch files of ``source`` into the folder ``raw``; on an error ``raw`` stays unchanged.

    ``source`` is one of these: ``official``, which means ``site``, or a local copy if the environment variable
    CIFAR10_ARCHIVE names one; ``sample``; or the path of a .tar.gz, a .tar.xz or a folder. The official files and
    those of the sample are checked by SHA-256. Raises `UserError` if anything goes wrong; its message lists three
    ways out.
    """
    try:
        with atomic(raw) as folder:
            if source == "official":
                _fetch_official(folder, site)
            elif source == "sample":
                unpack(SAMPLE, folder)
                check_sha256(folder, SAMPLE_SHA256, str(SAMPLE))
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
    check_sha256(folder, OFFICIAL_SHA256, origin)


def download(site: Site, folder: Path) -> Path:
    """Download the archive of ``site`` into ``folder``, show a progress bar, and return the path of the archive.

    Raises `UserError` if the site cannot be reached, stops sending, or sends a file with another MD5, and if the disk
    is full.
    """
    base, name = site.url.rsplit("/", 1)
    store = pooch.create(folder, f"{base}/", registry={name: f"md5:{site.md5}"}, retry_if_failed=site.retries)
    downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16, timeout=site.timeout)
    try:
        return Path(store.fetch(name, downloader=downloader))
    except Exception as error:  # a broken answer of a server can raise almost anything
        raise UserError(f"{site.url}: cannot be downloaded: {one_line(error)}") from error


def unpack(source: Path, folder: Path) -> None:
    """Write the six batch files of ``source``, a tar archive or a folder, into the new ``folder``, and nothing else.

    Raises `UserError` if ``source`` is missing or damaged, lacks one of the six files, has one of them twice, or is
    an archive that holds anything except plain files and folders.
    """
    folder.mkdir()
    try:
        for name, content in _batch_files(source):
            if (folder / name).exists():
                raise UserError(f"{source}: holds {name} twice")
            with (folder / name).open("wb") as target:
                shutil.copyfileobj(content, target)
    except UserError:
        raise
    except Exception as error:  # a damaged archive can raise almost anything
        raise UserError(f"{source}: cannot be unpacked: {one_line(error)}") from error
    if missing := [name for name in FILES if not (folder / name).exists()]:
        raise UserError(f"{source}: does not hold {', '.join(missing)}; expected: {', '.join(FILES)}")


def _batch_files(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name and content of each batch file at the top of ``source`` or one folder below."""
    if not source.is_dir():
        yield from _archived_batch_files(source)
        return
    for path in sorted([*source.glob("*.bin"), *source.glob("*/*.bin")]):
        if path.name in FILES:
            with path.open("rb") as content:
                yield path.name, content


def _archived_batch_files(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    # The members are read, and never extracted. So their paths and links cannot write anywhere.
    with tarfile.open(source) as archive:
        for member in archive:
            if member.size < 0:  # would be read forever
                raise UserError(f"{source}: cannot be unpacked: {member.name} has a negative size")
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
                raise UserError(
                    f"{source}: {member.name[:200]!a}: only plain files and folders are allowed in the archive"
                )
            if path.name in FILES and len(path.parts) <= 2 and (content := archive.extractfile(member)):
                yield path.name, content
        while archive.fileobj.read(1 << 20):  # the checksum of the compressed data comes after the last member
            pass
