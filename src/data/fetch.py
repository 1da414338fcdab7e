"""Get a data set: CIFAR-10 from its site or a local copy, the bundled sample, torchvision's, or a path."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pooch
from pydantic import Field, field_validator

from src.core.errors import UserError, one_line
from src.core.files import atomic
from src.data import look, sets
from src.data.dataset import Dataset
from src.data.prepared import SourceInfo
from src.data.raw import Form, store

SAMPLE = Path("data/sample/cifar-10-sample.tar.xz")
LOCAL_COPY = "CIFAR10_ARCHIVE"
TORCHVISION = "torchvision/"
WAYS_OUT = f"""Three ways out:
  retry       run the same command again
  local copy  set {LOCAL_COPY}=/path/to/cifar-10-binary.tar.gz (or another form of it, or a folder)
  sample      set download.source to sample, the 6,000 images bundled with the project"""


class DownloadSettings(Form):
    """The section ``download`` of params.yaml."""

    source: str
    path: str = Field(min_length=1)

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        if source in ("official", "sample", "path") or re.fullmatch(rf"{TORCHVISION}\w+", source):
            return source
        allowed = f"must be official, sample, path or {TORCHVISION}NAME (found {source!r})"
        raise ValueError(f"{allowed}; for your own pictures set it to path, and download.path to where they lie")


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


def fetch(settings: DownloadSettings, raw: Path, site: Site = OFFICIAL_SITE) -> tuple[SourceInfo, list[str]]:
    """Put the data set that ``settings`` name into the folder ``raw``; on an error ``raw`` stays unchanged.

    The official edition is that of ``site``, or a local copy if the environment variable CIFAR10_ARCHIVE names one.
    Returns what is known of the set, and lines that tell what was done. Raises `UserError` if anything goes wrong.
    """
    source = settings.source
    try:
        with atomic(raw) as folder, _opened(settings, folder.parent, site) as dataset:
            info, lines = store(dataset, folder, settings)
            if source in ("official", "sample") and info.edition != source:
                raise UserError(f"{dataset.source}: not the {source} edition of CIFAR-10; its images or labels differ")
    except UserError as error:
        if source != "official":
            raise
        raise UserError(f"{error}\n{WAYS_OUT}") from error
    return info, lines


@contextlib.contextmanager
def _opened(settings: DownloadSettings, place: Path, site: Site) -> Iterator[Dataset]:
    """Give the data set that ``settings`` name; what is downloaded lies in ``place`` until the end."""
    with tempfile.TemporaryDirectory(prefix=".download-", dir=place) as scratch:
        if settings.source.startswith(TORCHVISION):
            yield sets.read(settings.source.removeprefix(TORCHVISION), Path(scratch))
            return
        path = SAMPLE if settings.source == "sample" else Path(settings.path)
        if settings.source == "official":
            copy = os.environ.get(LOCAL_COPY)
            path = Path(copy) if copy else download(site, Path(scratch))
        with look.opened(path) as dataset:
            yield dataset


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
