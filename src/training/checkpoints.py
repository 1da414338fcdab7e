"""Checkpoints of an unfinished run: atomic, two kept, in a git-ignored scratch folder."""

import ast
import hashlib
import importlib.metadata
import io
import os
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from src.core.code import bare_tree
from src.core.files import atomic
from src.core.params import stage_deps
from src.training import parallel

SCRATCH = Path(os.environ.get("SCRATCH_FOLDER", "scratch"))  # for runs in temporary folders, which do not last
KEPT = 2
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "tensorly", "torch-pruning")  # all that change weights


class Checkpoints:
    """Checkpoints in ``folder``, written at least every ``every_seconds``."""

    def __init__(self, folder: Path, every_seconds: float = 300) -> None:
        self.folder, self.every_seconds = folder, every_seconds

    def save(self, steps: int, state: dict[str, Any]) -> None:
        """Write ``state`` after ``steps`` steps, whole or not at all, and forget all but the newest two.

        Raises `UserError` if the disk is full.
        """
        content = io.BytesIO()
        torch.save(state, content)
        with atomic(self.folder / f"{steps:08d}.pt") as temporary:
            temporary.write_bytes(content.getbuffer())
        for old in self._newest_first()[KEPT:]:
            old.unlink()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the newest state that is not damaged, with its tensors on ``device``; None if there is none.

        Prints which one it is, and which ones are skipped because they are damaged.
        """
        for path in self._newest_first():
            try:
                state = _undamaged(path, device)
            except Exception as error:  # a damaged file can raise almost anything
                print(f"{path}: damaged checkpoint skipped ({type(error).__name__})", flush=True)
                continue
            print(f"{path}: resuming after step {state['steps']}", flush=True)
            return state
        return None

    def clear(self) -> None:
        """Forget all, once the run is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("*.pt"), reverse=True)


def _undamaged(path: Path, device: torch.device) -> dict[str, Any]:
    """Return the state in the file ``path``; an exception of any type if the file is damaged."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:  # PyTorch does not check the checksums itself
            raise ValueError("wrong checksum")
    state = torch.load(path, map_location=device, weights_only=True)
    if not isinstance(state["steps"], int):
        raise TypeError("steps are not a number")
    return state


def fingerprint(texts: Iterable[str], places: Iterable[Path]) -> str:
    """Return a hash of ``texts``, of the files among ``places``, and of all that lies in the folders among them.

    Of a folder with Python code only the code counts, without comments and docstrings. A run with the same fingerprint
    may resume from a checkpoint.
    """
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    for place in places:
        for path in _files(place):
            digest.update(str(path).encode() + b"\0" + hashlib.sha256(_content(path)).digest())
    return digest.hexdigest()[:16]


def _content(path: Path) -> bytes:
    """Return what counts in the file ``path``: of Python its syntax tree, of anything else all bytes."""
    content = path.read_bytes()
    return ast.dump(bare_tree(content)).encode() if path.suffix == ".py" else content


def _files(place: Path) -> list[Path]:
    """Return the files of ``place``: itself, or the Python files below it, or all files below it if there are none."""
    if place.is_file():
        return [place]
    return sorted(place.rglob("*.py")) or sorted(filter(Path.is_file, place.rglob("*")))


def run_key(stage: str, settings: str, device: torch.device, bfloat16: bool, recipe: str | None = None) -> str:
    """Return the fingerprint of all that a run of ``stage`` depends on, for the name of its checkpoints' folder.

    That is ``settings``, the deps of the stage in dvc.yaml (of the item ``recipe`` if it is a foreach stage), and
    what decides the last bits: kind of device, precision, threads, processes, versions of `LIBRARIES`.
    """
    machine = [device.type, bfloat16, torch.get_num_threads(), parallel.processes(), *map(_version, LIBRARIES)]
    return fingerprint([settings, *map(str, machine)], stage_deps(stage, recipe))


def _version(library: str) -> str:
    """Return the version of ``library``, or "" where it is not installed: only some techniques need each."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""
