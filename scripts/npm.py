"""Packages of the npm registry, checked by SHA-256."""

import tarfile
from dataclasses import dataclass
from pathlib import Path

import pooch

from src.core.errors import UserError, one_line

FOLDER = Path("scratch/npm")  # keeps the archives
REGISTRY = "https://registry.npmjs.org/"
TIMEOUT = 30  # seconds without a byte after which a download is given up
RETRIES = 3  # attempts after the first


@dataclass(frozen=True)
class Package:
    """A package of npm: name, version, SHA-256 of its archive, license, and the files that are taken out of it."""

    name: str
    version: str
    sha256: str
    license: str
    files: tuple[str, ...]

    @property
    def archive(self) -> str:
        """The path of the archive below the address of the registry."""
        return f"{self.name}/-/{self.name}-{self.version}.tgz"

    @property
    def title(self) -> str:
        """The line that names the package above its license."""
        return f"{self.name} {self.version} ({REGISTRY}{self.archive}), {self.license}"


def contents_of(package: Package) -> list[bytes]:
    """Return the files of ``package``, whose archive is kept in `FOLDER` and taken from there the next time.

    Raises `UserError` if the registry cannot be reached, stops sending, or sends an archive with another SHA-256, and
    if the archive lacks one of the files.
    """
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
    registry = {package.archive: f"sha256:{package.sha256}"}
    store = pooch.create(FOLDER, REGISTRY, registry=registry, retry_if_failed=RETRIES)
    try:
        with tarfile.open(store.fetch(package.archive, downloader=downloader)) as archive:
            return [archive.extractfile(f"package/{name}").read() for name in package.files]
    except Exception as error:  # a broken answer of a server can raise almost anything
        raise UserError(f"{REGISTRY}{package.archive}: cannot be used: {one_line(error)}") from error
