"""Give every reader damaged files, and report what it lets through: python -m scripts.fuzz [--files N] [--seed N].

Each reader must return a value of the promised form, or raise a `UserError` (a `ParamsError` is one) whose message is
one line that names the file. A damaged checkpoint must be skipped, with such a line printed. Anything else is a leak:
another exception, a warning, a message of two lines or of none, a value of another form, a read of more than
`SECONDS`, the death of the process. Where the format has checksums, the value must also be the one that was written.
Leaking files are kept in scratch/fuzz. The same seed makes the same files.

Each reader runs in a process of its own, with a limit on memory (on Linux) and on the size of files that it writes.
An allocation above that limit is an error in the reader like any other, so it is no leak if it ends in one line.

Not found: a changed number in a format without checksums (CSV, JSON, YAML, the batch files, safetensors, ONNX); a
value of the right form that makes no sense; memory taken below the limit. ONNX Runtime is C++ and was not written for
hostile files: here it runs with one thread, on a small network, and its crashes are caught because the process is the
fuzzer's own. In the stages and in `scripts.predict` such a crash would end the program without a line of ours.
"""

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch

from src.core.errors import UserError
from src.training.checkpoints import SCRATCH

KEPT = SCRATCH / "fuzz"
SECONDS = 30  # that a read may take
MEMORY = 2 << 30  # bytes that a reader may take, and
WRITTEN = 64 << 20  # bytes of a file that it may write
HEADER = 700  # bytes at the start and at the end of a file where most of its structure lies
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """The part of a file that is damaged: ``take`` cuts it out of the file's bytes, ``put`` puts another in its place.

    ``put`` makes the checksums and lengths around the part right again, so that the damage reaches what lies inside.
    """

    take: Callable[[bytes], bytes]
    put: Callable[[bytes, bytes], bytes]


@dataclass(frozen=True)
class Reader:
    """A reader of files under test.

    ``make`` writes a valid file to ``path``, and ``read`` reads it; a value of the wrong form is an error in ``read``.
    ``text``: words of the file are replaced too. ``exact``: a file that can be read must give the value written.
    """

    name: str
    path: Path
    make: Callable[[Path], object]
    read: Callable[[Path], Any]
    text: bool = False
    exact: bool = False
    part: Part = Part(lambda whole: whole, lambda whole, part: part)


@dataclass(frozen=True)
class Outcome:
    """What became of one file; ``reason`` says what leaked, ``kept`` where the file lies now."""

    kind: Literal["read", "refused", "leak"]
    reason: str = ""
    kept: str = ""


def main() -> None:
    """Print a line for each reader, then its leaks; `UserError` at the end if there was one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="damaged files for each reader")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    leaking = 0
    for reader in READERS:
        outcomes = fuzz(reader, arguments.files, arguments.seed, KEPT)
        leaking += _report(reader, outcomes)
    if leaking:
        raise UserError(f"{leaking} of {len(READERS)} readers leak; see above")


def _report(reader: Reader, outcomes: list[Outcome]) -> bool:
    """Print what became of the files of ``reader``, and each kind of leak once; return whether there was one."""
    kinds = Counter(outcome.kind for outcome in outcomes)
    print(
        f"{reader.name:<28} {kinds['read']:>5} read {kinds['refused']:>5} refused {kinds['leak']:>5} leaked", flush=True
    )
    leaks: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.kind == "leak":
            leaks.setdefault(outcome.reason.partition(":")[0], []).append(outcome)
    for same in leaks.values():
        print(f"  {len(same)} x {same[0].reason} ({same[0].kept})", flush=True)
    return bool(leaks)


def fuzz(reader: Reader, files: int, seed: int, kept: Path) -> list[Outcome]:
    """Return what became of each of ``files`` damaged files given to ``reader``; leaking files go to ``kept``.

    Raises `UserError` if the undamaged file is not read.
    """
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        while len(outcomes) < files:  # a process that dies is followed by another one
            outcomes += _outcomes(reader, range(len(outcomes), files), seed, Path(folder), kept.absolute())
    return outcomes


def _outcomes(reader: Reader, indices: range, seed: int, folder: Path, kept: Path) -> Iterator[Outcome]:
    """Yield the outcomes of the files ``indices`` from one process, up to the first file that ends the process."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(reader, indices, seed, folder, kept, sender), daemon=True)
    process.start()
    sender.close()
    try:
        for index in indices:
            try:
                outcome = receiver.recv() if receiver.poll(SECONDS) else f"hang: not read in {SECONDS} seconds"
            except EOFError:
                process.join()
                outcome = f"death: {signal.strsignal(-process.exitcode) or f'exit code {process.exitcode}'}"
            if isinstance(outcome, Outcome):
                yield outcome
                continue
            yield Outcome("leak", outcome, _keep(reader, folder, kept, index))
            return
    finally:
        process.kill()
        process.join()


def _work(reader: Reader, indices: range, seed: int, folder: Path, kept: Path, results: Connection) -> None:
    """Send the outcome of each file; this is what the process of a reader does."""
    _limit()
    os.chdir(folder)
    path = reader.path
    path.parent.mkdir(parents=True, exist_ok=True)
    reader.make(path)
    whole = path.read_bytes()
    expected = reader.read(path)
    for index in indices:
        path.write_bytes(mutant(reader, whole, seed, index))
        outcome = _attempt(reader, expected)
        if outcome.kind == "leak":
            outcome = Outcome("leak", outcome.reason, _keep(reader, folder, kept, index))
        results.send(outcome)


def _limit() -> None:
    """Limit the process, and send what it prints nowhere."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (WRITTEN, WRITTEN))
    pages = Path("/proc/self/statm")
    if pages.exists():
        taken = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.__stdout__.fileno())
        os.dup2(nowhere.fileno(), sys.__stderr__.fileno())
