"""The files of a folder or of an archive. An archive is read and never extracted, so that it cannot write anywhere."""

import contextlib
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from src.core.errors import UserError, one_line

LARGEST = 1 << 30  # bytes of one file
IGNORED = ("__macosx", "thumbs.db", "desktop.ini")  # what systems leave behind, as are hidden files


@dataclass(frozen=True)
class Member:
    """A file: its path below the folder or the archive, its name in messages, its place in the archive."""

    parts: tuple[str, ...]
    name: str
    place: int
    opener: Callable[[], Any]

    def read(self) -> bytes:
        """Return the content; `UserError` if it cannot be read or has more than `LARGEST` bytes."""
        try:
            with self.opener() as file:
                content: bytes = file.read(LARGEST + 1)
        except Exception as error:  # a damaged archive can raise almost anything
            raise UserError(f"{self.name}: cannot be read: {one_line(error)}") from error
        if len(content) > LARGEST:
            raise UserError(f"{self.name}: more than {LARGEST >> 20:,} MiB; no file may have more")
        return content


@contextlib.contextmanager
def members(source: Path) -> Iterator[list[Member]]:
    """Give the files of ``source``, a folder, a tar (of any compression) or a zip, which stays open until the end.

    Which it is, its content says. Raises `UserError` if it is something else, if it is damaged, or if it is an archive
    that holds anything except plain files and folders.
    """
    with contextlib.ExitStack() as stack:
        try:
            if source.is_dir():
                files = [*_in_folder(source)]
            elif _is_zip(source):
                files = [*_in_zip(source, stack.enter_context(zipfile.ZipFile(source)))]
            else:
                files = [*_in_tar(source, stack.enter_context(tarfile.open(source)))]
        except UserError:
            raise
        except tarfile.ReadError:
            raise UserError(f"{source}: no folder, and no tar, zip or npz file that can be read") from None
        except Exception as error:  # a damaged archive can raise almost anything
            raise UserError(f"{source}: cannot be read: {one_line(error)}") from error
        yield [file for file in files if not any(map(_ignored, file.parts))]


def _is_zip(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(4) in (b"PK\3\4", b"PK\5\6")


def _ignored(part: str) -> bool:
    return part.startswith(".") or part.lower() in IGNORED


def _in_folder(source: Path) -> Iterator[Member]:
    def fail(error: OSError) -> None:
        raise error

    for folder, _, names in os.walk(source, onerror=fail, followlinks=True):
        for path in (Path(folder, name) for name in names):
            if path.is_file() or path.is_symlink():  # no pipe or device
                yield Member(path.relative_to(source).parts, _shown(str(path)), 0, partial(path.open, "rb"))


def _in_zip(source: Path, archive: zipfile.ZipFile) -> Iterator[Member]:
    for place, info in enumerate(archive.infolist()):
        if not info.is_dir():
            yield _archived(source, info.filename.replace("\\", "/"), place, partial(archive.open, info))


def _in_tar(source: Path, archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if info.size < 0:  # would be read forever
            raise UserError(f"{source}: cannot be read: {_shown(info.name)} has a negative size")
        if info.isreg():
            yield _archived(source, info.name, info.offset_data, partial(archive.extractfile, info))
        elif not info.isdir():
            raise _refusal(source, info.name)
    while archive.fileobj.read(1 << 20):  # the checksum of the compressed data comes after the last member
        pass


def _archived(source: Path, name: str, place: int, opener: Callable[[], Any]) -> Member:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise _refusal(source, name)
    return Member(path.parts, f"{source}: {_shown(name)}", place, opener)


def _refusal(source: Path, name: str) -> UserError:
    return UserError(f"{source}: {name[:200]!a}: only plain files and folders are allowed in the archive")


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)
