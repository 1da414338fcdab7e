"""Give damaged files to every reader of files: python -m checks.fuzz [--files N] [--seed N] [READER ...].

Hypothesis cuts, flips, inserts, repeats and replaces pieces of a valid file, or puts a foreign file in its place. The
reader must return a value of the promised form, or raise a `UserError` of one line that names the file. Nothing else:
no other exception, no warning, no printed line, no file left behind, no hang, no death of the process. Where a format
has checksums, the value must be the one that was written. The file that breaks this is kept in scratch/fuzz.

Each reader runs in a process of its own, which may take `MEMORY` (on Linux) and write files of `WRITTEN` bytes. What
is not found: a changed number in a format without checksums, and memory below the limit. A hostile file can end ONNX
Runtime, a C++ library, and with it the program; here that is reported.
"""

import argparse
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hypothesis
import torch
from hypothesis import strategies as st

from checks.readers import FOREIGN, READERS, Reader
from src.core.errors import UserError, exit_cleanly, one_line
from src.training.checkpoints import SCRATCH

KEPT = SCRATCH / "fuzz"
SECONDS = 30  # that a read may take
MEMORY = 2 << 30  # bytes that a reader may take, and
WRITTEN = 64 << 20  # bytes of a file that it may write
PRINTED = Path("printed.txt")
HEADER = 700  # bytes at the start and at the end of a file where most of its structure lies
SEARCH = hypothesis.settings(
    phases=[hypothesis.Phase.generate], deadline=None, database=None, suppress_health_check=hypothesis.HealthCheck
)
SILENT = (  # warnings that are no leak
    (ResourceWarning, ""),  # NumPy leaves a damaged file open; Python does not show these two kinds
    (DeprecationWarning, ""),
    (UserWarning, "Detected pickle protocol"),  # PyTorch's, where the checksums of a checkpoint are right
)
WORD = re.compile(rb"[\w.+-]+|[^\w\s]")
STRANGE = (  # what may take the place of a piece
    *rb"""\ " ' , : ; ? # | % & *x &x << = - !!int !!python/name:os [] {} "" \ud800 0x1g 1:99 2024-99-99""".split(),
    *b"null true NaN -Infinity 1e999 -1 0 1.5".split(),
    *(b"", b"\t", b"\n", b"\r", b"\0", b"\x1b[2J", b"\xff", b"\xef\xbb\xbf", "\u2028".encode(), b"9" * 5000),
    *(b"[" * 100_000, b'{"a":' * 100_000, b"- " * 2000, b"x" * 200_000),
)


def main() -> None:
    """Print a line for each reader; `UserError` if one of them leaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"out of: {', '.join(r.name for r in READERS)}")
    parser.add_argument("--files", type=int, default=1000, help="damaged files for each reader")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    leaks = {}
    for reader in READERS:
        if reader.name in given.readers or not given.readers:
            leaks[reader.name] = fuzz(reader, given.files, given.seed)
            print(f"{reader.name}: {leaks[reader.name] or 'held'}", flush=True)
    if any(leaks.values()):
        raise UserError(f"leaks in {', '.join(filter(leaks.get, leaks))}; see above")


def fuzz(reader: Reader, files: int, seed: int = 0, kept: Path = KEPT) -> str:
    """Return how ``reader`` broke the rule on one of ``files`` damaged files, and where that lies; "" if it did not."""
    context = get_context("fork")  # PyTorch is imported once only
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=_search, args=(reader, files, seed, folder, sender))
        process.start()
        sender.close()
        try:
            leak = receiver.recv()
        except EOFError:
            leak = f"the process died, or did not read the file within {SECONDS} seconds"
        process.join()
        if not leak:
            return ""
        kept.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"\W+", "_", reader.name) + reader.path.suffix
        return f"{leak} ({shutil.copy(folder / reader.path, kept / name)})"


def _search(reader: Reader, files: int, seed: int, folder: str, result: Connection) -> None:
    """Send the first leak among ``files`` damaged files, "" if there is none. Runs in a process of its own."""
    os.chdir(folder)
    _limit()
    reader.path.parent.mkdir(parents=True, exist_ok=True)
    reader.path.write_bytes(reader.whole(reader.valid))
    try:
        expected, there = reader.read(reader.path), set(Path().rglob("*"))
    except Exception as error:
        result.send(one_line(f"the valid file is not read: {error!r}"))
        return

    @hypothesis.seed(seed)
    @hypothesis.settings(SEARCH, max_examples=files)
    @hypothesis.given(damaged(reader.valid))
    def rule(content: bytes) -> None:
        reader.path.write_bytes(reader.whole(content))
        signal.alarm(SECONDS)  # ends the process
        leak = _leak(reader, expected) or " ".join(f"leaves {path}" for path in {*Path().rglob("*")} - there)
        signal.alarm(0)
        assert not leak, leak

    try:
        rule()
    except AssertionError as error:
        result.send(one_line(error))
    result.send("")


def _limit() -> None:
    """Limit what this process may take, and send what it prints to the file `PRINTED`."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (WRITTEN, WRITTEN))
    pages = Path("/proc/self/statm")  # only on Linux
    if pages.exists():
        taken = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    sys.stdout = sys.stderr = PRINTED.open("a")
    os.dup2(sys.stdout.fileno(), 1)  # what C++ libraries print
    os.dup2(sys.stdout.fileno(), 2)


def _leak(reader: Reader, expected: Any) -> str:
    """Return how ``reader`` breaks the rule with its file as it lies there now; "" if it does not."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for category, message in SILENT:
            warnings.filterwarnings("ignore", message, category)
        try:
            value = reader.read(reader.path)
        except UserError as error:
            named = str(error).startswith(tuple(f"{place}: " for place in (reader.path, *reader.path.parents)))
            mistake = (
                "" if named and str(error).splitlines() == [str(error)] else f"not one line that names it: {error}"
            )
        except BaseException as error:  # the exceptions of Rust libraries are not Exceptions
            mistake = f"{type(error).__name__}: {error}"
        else:
            right = isinstance(value, reader.kind) and (not reader.exact or value == expected)
            mistake = "" if right else f"another value: {value!r}"
    return mistake or "".join(f"warning: {warning.message}" for warning in warned[:1]) or _printed()


def _printed() -> str:
    """Return what this process has printed since the last call."""
    sys.stdout.flush()
    text = PRINTED.read_text(errors="replace")
    os.truncate(PRINTED, 0)
    return f"printed: {text!r}" if text else ""


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """Draw what one to three kinds of damage leave of ``valid``, or of a foreign file."""
    content = draw(st.sampled_from((*[valid] * 20, *FOREIGN)))
    for _ in range(draw(st.integers(1, 3))):
        start, stop = draw(_places(content))
        before, piece, after = content[:start], content[start:stop], content[stop:]
        new = draw(st.binary(max_size=16) | st.sampled_from(STRANGE))
        flipped = bytes(byte ^ draw(st.integers(1, 255)) for byte in piece[:1])
        ways = (
            *(before + flipped + piece[1:] + after, before + new + after, before + new + piece + after),
            *(before + piece + piece + after, before + after, before, b""),
        )
        content = ways[draw(st.integers(0, len(ways) - 1))]
    return content


def _places(content: bytes) -> st.SearchStrategy[tuple[int, int]]:
    """Return the strategy for the start and stop of a piece of ``content``: a few bytes, or a word or a sign."""
    size, near = len(content), min(HEADER, len(content))
    start = st.integers(0, near) | st.integers(size - near, size) | st.integers(0, size)
    few = st.tuples(start, st.integers(1, 16)).map(lambda place: (place[0], sum(place)))
    words = [word.span() for word in WORD.finditer(content[: 100 * HEADER])]
    return few | st.sampled_from(words) if words else few


if __name__ == "__main__":
    exit_cleanly(main)
