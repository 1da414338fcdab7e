"""Report what the readers of files do with damaged files: python -m checks.fuzz [--files N] [--seed N].

Each reader must return a value of the promised form, or raise a `UserError` (a `ParamsError` is one) whose message is
one line that begins with the path. A damaged checkpoint must be skipped, and such a line printed. Where a format has
checksums, a value that is read must be the one that was written. Everything else is a leak: another exception, another
message, a warning, a printed line, a read that takes more than `SECONDS`, the end of the process. Files that leaked
are kept in scratch/fuzz. The same seed makes the same files.

Each reader runs in a process of its own, which may take `MEMORY` (on Linux) and write files of `WRITTEN` bytes. Where
a reader wants more, it gets an error from Python or the system; it must turn that into its one line like any other.

What is not found: a changed number in a format without checksums (CSV, JSON, YAML, batch files, safetensors, ONNX);
memory below the limit; damage that needs a right checksum around it, except in the two readers that damage one member
of a zip file. ONNX Runtime is a C++ library that may crash on a hostile file or take all memory. Here that ends the
process of the reader, and is reported as a leak. In a stage or in `scripts.predict` it would end the program, and none
of our code could say why.
"""

import argparse
import contextlib
import gzip
import io
import json
import lzma
import multiprocessing
import os
import re
import resource
import shutil
import sys
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.random import Generator
from onnx import TensorProto, helper, numpy_helper
from src.compression.record import load_candidate, network_path, save_candidate

from src.compression.candidate import Candidate
from src.core.errors import UserError, exit_cleanly
from src.core.files import read_csv, read_json, write_csv, write_json
from src.core.params import read_yaml
from src.data.cifar10 import FILES, RECORD_BYTES, read_batch
from src.data.fetch import unpack
from src.data.prepared import CLASSES, Split, Statistics, load_split, load_statistics, save_split, save_statistics
from src.export.runtime import INPUT, OUTPUT, SIDE, session
from src.network.vgg import VGG, Conv, Hidden, Plan, Pool, load_with_record
from src.results.curves import CURVES, read_curves
from src.training.checkpoints import SCRATCH, Checkpoints

KEPT = SCRATCH / "fuzz"
SECONDS = 30  # that a read may take
MEMORY = 2 << 30  # bytes that a reader may take, and
WRITTEN = 64 << 20  # bytes of a file that it may write
PRINTED = Path("printed.txt")
HEADER = 700  # bytes at the start and at the end of a file where most of its structure lies
CPU = torch.device("cpu")
HIDDEN_WARNINGS = (
    (ResourceWarning, ""),  # NumPy leaves a damaged file open; Python does not show these two kinds
    (DeprecationWarning, ""),
    (UserWarning, "Detected pickle protocol"),  # PyTorch's, where the checksums of a checkpoint are right
)


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
    """Print one line for each reader and one for each kind of leak; `UserError` if there was a leak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="damaged files for each reader")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    leaking = []
    for reader in READERS:
        outcomes = fuzz(reader, arguments.files, arguments.seed, KEPT)
        for line in report(reader, outcomes):
            print(line, flush=True)
        if any(outcome.kind == "leak" for outcome in outcomes):
            leaking.append(reader.name)
    if leaking:
        raise UserError(f"leaks in {', '.join(leaking)}; see above")


def report(reader: Reader, outcomes: list[Outcome]) -> list[str]:
    """Return a line that counts the ``outcomes`` of ``reader``, and a line for each kind of leak with one example."""
    kinds = Counter(outcome.kind for outcome in outcomes)
    lines = [f"{reader.name:<28} {kinds['read']:>6} read {kinds['refused']:>6} refused {kinds['leak']:>6} leaked"]
    leaks: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.kind == "leak":
            leaks.setdefault(outcome.reason.partition(":")[0], []).append(outcome)
    return lines + [f"  {len(same)} times {same[0].reason} ({same[0].kept})" for same in leaks.values()]


def fuzz(reader: Reader, files: int, seed: int, kept: Path) -> list[Outcome]:
    """Return what became of ``files`` damaged files given to ``reader``; those that leaked are copied to ``kept``.

    Raises `UserError` if the valid file is not read.
    """
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        while len(outcomes) < files:  # a process that dies is followed by another one
            outcomes += _outcomes(reader, range(len(outcomes), files), seed, Path(folder), kept.absolute())
    return outcomes


def _outcomes(reader: Reader, indices: range, seed: int, folder: Path, kept: Path) -> Iterator[Outcome]:
    """Yield the outcomes of the files ``indices`` from one process, up to the first file that ends the process."""
    context = multiprocessing.get_context("fork")  # so that PyTorch is imported once only
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(reader, indices, seed, folder, kept, sender), daemon=True)
    process.start()
    sender.close()
    try:
        for index in indices:
            outcome = _receive(receiver, process)
            if outcome.kind == "leak" and not outcome.kept:
                yield replace(outcome, kept=_keep(reader, folder, kept, index))
                return
            yield outcome
    finally:
        process.kill()
        process.join()


def _receive(receiver: Connection, process: multiprocessing.Process) -> Outcome:
    """Return the next outcome that ``process`` sends; a leak if it takes too long or dies."""
    if not receiver.poll(SECONDS):
        return Outcome("leak", f"hang: not read in {SECONDS} seconds")
    try:
        found = receiver.recv()
    except EOFError:
        process.join()
        return Outcome("leak", f"death: the process ended with {process.exitcode}")
    if isinstance(found, UserError):
        raise found
    return found


def _work(reader: Reader, indices: range, seed: int, folder: Path, kept: Path, results: Connection) -> None:
    """Send the outcome of each file, or a `UserError` if the valid file is not read. Runs in a process of its own."""
    os.chdir(folder)
    _limit()
    reader.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        reader.make(reader.path)
        whole = reader.path.read_bytes()
        expected = reader.read(reader.path)
    except Exception as error:
        results.send(UserError(f"{reader.name}: the valid file is not read: {error!r}"))
        return
    for index in indices:
        reader.path.write_bytes(mutant(reader, whole, seed, index))
        outcome = _attempt(reader, expected)
        if outcome.kind == "leak":
            outcome = replace(outcome, kept=_keep(reader, folder, kept, index))
        results.send(outcome)


def _limit() -> None:
    """Limit what this process may take, and send what it prints to the file `PRINTED`."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (WRITTEN, WRITTEN))
    pages = Path("/proc/self/statm")  # only on Linux
    if pages.exists():
        taken = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    sys.stdout = sys.stderr = PRINTED.open("a")
    os.dup2(sys.stdout.fileno(), 1)  # what C++ libraries print
    os.dup2(sys.stdout.fileno(), 2)


def _attempt(reader: Reader, expected: Any) -> Outcome:
    """Return what happens when ``reader`` reads its file as it lies there now."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for category, message in HIDDEN_WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        try:
            value = reader.read(reader.path)
        except UserError as error:
            kind, mistake = "refused", _mistake_in_message(str(error), reader.path)
        except BaseException as error:  # the exceptions of Rust libraries are not Exceptions
            kind, mistake = "leak", f"{type(error).__name__}: {error}"
        else:
            kind, mistake = "read", "another value" if reader.exact and value != expected else ""
    mistake = mistake or "".join(f"warning: {warning.message}" for warning in warned[:1]) or _printed()
    return Outcome("leak", " ".join(mistake.split())[:300]) if mistake else Outcome(kind)


def _mistake_in_message(message: str, path: Path) -> str:
    """Return what is wrong with the ``message`` about the file ``path``; nothing if it is one line that names it."""
    if message.splitlines() != [message]:
        return f"not one line: {message!r}"
    if not message.startswith(tuple(f"{place}: " for place in (path, *path.parents))):
        return f"does not name the file: {message!r}"
    return ""


def _printed() -> str:
    """Return what this process has printed since the last call."""
    sys.stdout.flush()
    text = PRINTED.read_text(errors="replace")
    os.truncate(PRINTED, 0)
    return f"printed: {text!r}" if text else ""


def _keep(reader: Reader, folder: Path, kept: Path, index: int) -> str:
    """Copy the file of ``reader`` as it lies there now to ``kept``; return where it is."""
    kept.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "_", reader.name)
    return str(shutil.copy(folder / reader.path, kept / f"{name}-{index}{reader.path.suffix}"))


def mutant(reader: Reader, whole: bytes, seed: int, index: int) -> bytes:
    """Return the damaged file number ``index``, made of the valid file ``whole``.

    The part under damage is empty in file 0, random bytes in the next four, and changed once or twice in the others.
    """
    rng = np.random.default_rng([seed, zlib.crc32(reader.name.encode()), index])
    if index < 5:
        return reader.part.put(whole, rng.bytes(rng.integers(1, 1000)) if index else b"")
    mutations = (*MUTATIONS, *[replace_word] * 4) if reader.text else MUTATIONS
    content = reader.part.take(whole)
    for _ in range(rng.integers(1, 3)):
        content = mutations[rng.integers(len(mutations))](content, rng)
    return reader.part.put(whole, content)


def flip_bits(content: bytes, rng: Generator) -> bytes:
    """Return ``content`` with 1 to 4 bits changed."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 5) if content else 0):
        damaged[min(_place(content, rng), len(content) - 1)] ^= 1 << rng.integers(8)
    return bytes(damaged)


def overwrite(content: bytes, rng: Generator) -> bytes:
    """Return ``content`` with random bytes in place of a block."""
    block = _block(content, rng)
    return content[: block.start] + rng.bytes(len(content[block])) + content[block.stop :]


def insert(content: bytes, rng: Generator) -> bytes:
    """Return ``content`` with a block of random bytes put in."""
    place = _place(content, rng)
    return content[:place] + rng.bytes(rng.integers(1, 17)) + content[place:]


def delete(content: bytes, rng: Generator) -> bytes:
    """Return ``content`` without a block."""
    block = _block(content, rng)
    return content[: block.start] + content[block.stop :]


def truncate(content: bytes, rng: Generator) -> bytes:
    """Return the beginning of ``content``."""
    return content[: _place(content, rng)]


def duplicate(content: bytes, rng: Generator) -> bytes:
    """Return ``content`` with a block of it put in at another place."""
    place = _place(content, rng)
    return content[:place] + content[_block(content, rng)] + content[place:]


def swap(content: bytes, rng: Generator) -> bytes:
    """Return ``content`` with two of its blocks in each other's place."""
    one, other = sorted((_block(content, rng), _block(content, rng)), key=lambda block: block.start)
    between = content[one.stop : other.start]
    return content[: one.start] + content[other] + between + content[one] + content[other.stop :]


def replace_word(content: bytes, rng: Generator) -> bytes:
    """Return the text ``content`` with something strange in place of a word or a sign."""
    words = list(WORD.finditer(content))
    if not words:
        return content
    word = words[rng.integers(len(words))]
    return content[: word.start()] + STRANGE[rng.integers(len(STRANGE))] + content[word.end() :]


def _place(content: bytes, rng: Generator) -> int:
    """Return a position in ``content``, more often near the start or the end than in between."""
    size, near = len(content), min(HEADER, len(content))
    return int((rng.integers(near + 1), size - rng.integers(near + 1), rng.integers(size + 1))[rng.integers(3)])


def _block(content: bytes, rng: Generator) -> slice:
    """Return the place of up to 16 bytes of ``content``."""
    start = _place(content, rng)
    return slice(start, start + int(rng.integers(1, 17)))


MUTATIONS = (*[flip_bits] * 3, overwrite, insert, delete, truncate, duplicate, swap)
WORD = re.compile(rb"[\w.+-]+|[^\w\s]")
STRANGE = (
    *rb"""\ " ' , : ; ? # | % & *x &x << = - !!int !!python/name:os [] {} "" \ud800 0x1g 1:99 2024-99-99""".split(),
    *b"null true NaN -Infinity 1e999 -1 0 1.5".split(),
    *(b"", b" ", b"\t", b"\n", b"\r", b"\0", b"\x1b[2J", b"\xff", b"\xef\xbb\xbf", "\u2028".encode()),
    *(b"9" * 5000, b"[" * 100_000, b'{"a":' * 100_000, b"- " * 2000, b"x" * 200_000),
)


def zip_member(name: str) -> Part:
    """Return the file ``name`` in a zip archive as a part."""

    def members(whole: bytes) -> dict[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            return {member: archive.read(member) for member in archive.namelist()}

    def put(whole: bytes, part: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for member, content in (members(whole) | {name: part}).items():
                archive.writestr(member, content)
        return buffer.getvalue()

    return Part(lambda whole: members(whole)[name], put)


def metadata(key: str) -> Part:
    """Return the text at ``key`` of the metadata of a safetensors file as a part."""

    def split(whole: bytes) -> tuple[dict[str, Any], bytes]:
        size = int.from_bytes(whole[:8], "little")
        return json.loads(whole[8 : 8 + size]), whole[8 + size :]

    def put(whole: bytes, part: bytes) -> bytes:
        header, tensors = split(whole)
        header["__metadata__"][key] = part.decode(errors="replace")
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + tensors

    return Part(lambda whole: split(whole)[0]["__metadata__"][key].encode(), put)


def _make_split(path: Path) -> None:
    images = torch.arange(6 * 3 * 32 * 32).view(6, 3, 32, 32) % 251
    save_split(path.parent, "train", Split(images.to(torch.uint8), torch.arange(6)))


def _read_split(path: Path) -> Any:
    split = load_split("train", path.parent)
    if len(split.images) != len(split.labels) or split.images.shape[1:] != (3, 32, 32):
        raise TypeError(f"images {split.images.shape}, labels {split.labels.shape}")
    return split.images.numpy().tobytes(), split.labels.tolist()


def _make_statistics(path: Path) -> None:
    save_statistics(path.parent, Statistics("sample", (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)))


def _read_statistics(path: Path) -> None:
    if not isinstance(load_statistics(path.parent), Statistics):
        raise TypeError("not statistics")


def _make_rows(path: Path) -> None:
    write_csv(path, [{"recipe": name, "share": len(name) / 7, "bytes": 3**10, "note": None} for name in CLASSES])


def _read_rows(path: Path) -> None:
    for row in read_csv(path):
        if not row or not all(isinstance(name, str) for name in row):
            raise TypeError(f"a row is {row!r}")


def _make_mapping(path: Path) -> None:
    export = {"fold": True, "bits": 8, "method": None}
    write_json(path, {"edition": "sample", "accuracy": 0.9, "steps": ["fold", "int8"], "export": export})


def _read_json(path: Path) -> None:
    _check_mapping(read_json(path))


def _read_yaml(path: Path) -> None:
    _check_mapping(read_yaml(path))


def _check_mapping(value: Any) -> None:
    if not isinstance(value, dict):
        raise TypeError(f"not a mapping: {value!r}")


def _make_yaml(path: Path) -> None:
    path.write_text("seed: 0\ntrain:  # a comment\n  lr: 5e-4\n  phases: [{size: 24, epochs: 2}]\n  name: 'a b'\n")


def _make_network(path: Path) -> None:
    pools = (Pool(name=f"pool{number}") for number in range(1, 5))
    features = (Conv(name="conv1", channels=4), *pools, Conv(name="conv2", channels=4, batch_norm=False))
    network = VGG(Plan(features=features, head=(Hidden(name="hidden1", width=4),)))
    save_candidate(Candidate(network, steps=("cut",), notes=("a note",)), path, path.stem, "sample", 0.9)


def _read_network(path: Path) -> None:
    network, record = load_with_record(path)
    _check_network(network)
    _check_mapping(record)


def _read_candidate(path: Path) -> None:
    candidate, _ = load_candidate(path.stem)
    _check_network(candidate.network)


def _check_network(network: VGG) -> None:
    if network(torch.zeros(2, 3, SIDE, SIDE)).shape != (2, network.plan.classes):
        raise TypeError("logits of another shape")


def _make_onnx(path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel, matrix = rng.normal(size=(4, 3, 3, 3)).astype(np.float16), rng.integers(-9, 9, (4, 10)).astype(np.int8)
    weights = {"kernel": kernel, "matrix": matrix, "scale": np.array(0.1, np.float32)}
    nodes = [
        helper.make_node("Cast", ["kernel"], ["kernel_float32"], to=TensorProto.FLOAT),
        helper.make_node("Conv", [INPUT, "kernel_float32"], ["maps"], pads=[1] * 4),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("MaxPool", ["positive"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ReduceMean", ["pooled"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("DequantizeLinear", ["matrix", "scale"], ["matrix_float32"]),
        helper.make_node("Gemm", ["means", "matrix_float32"], [OUTPUT]),
    ]
    images = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", 3, SIDE, SIDE])
    logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", 10])
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "small", [images], [logits], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _read_onnx(path: Path) -> None:
    feed = {INPUT: np.zeros((3, 3, SIDE, SIDE), np.float32)}
    (logits,) = session(path, threads=1).run([OUTPUT], feed)
    if logits.shape != (3, 10):
        raise TypeError(f"logits {logits.shape}")


def _make_batch(path: Path) -> None:
    path.write_bytes(b"".join(bytes([label]) + bytes(RECORD_BYTES - 1) for label in range(3)))


def _archive() -> bytes:
    """Return a tar archive of six batch files, whose long names with an accent need extra headers."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for label, name in enumerate(FILES):
            content = bytes([label]) * RECORD_BYTES
            member = tarfile.TarInfo(f"{'é' * 60}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _make_tar(path: Path) -> None:
    path.write_bytes(_archive())


def _make_tar_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(_archive(), mtime=0))


def _make_tar_xz(path: Path) -> None:
    path.write_bytes(lzma.compress(_archive()))


def _read_archive(path: Path) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        unpack(path, Path(folder) / "raw")
        return {file.name: file.read_bytes() for file in Path(folder).glob("raw/*")}


def _make_curves(path: Path) -> None:
    for name in CURVES:
        curve = Path("curves", f"{name}.tsv")
        curve.parent.mkdir(parents=True, exist_ok=True)
        curve.write_text(f"step\t{curve.stem}\n" + "".join(f"{epoch}\t{epoch / 7}\n" for epoch in range(1, 6)))


def _read_curves(path: Path) -> None:
    if {type(value) for values in read_curves(Path("curves")).values() for value in values} != {float}:
        raise TypeError("not all values are numbers")


def _make_checkpoint(path: Path) -> None:
    state = {"steps": 7, "model": {"weight": torch.arange(6.0)}, "history": [{"epoch": 1, "val_loss": 0.5}]}
    Checkpoints(path.parent).save(7, state)


def _read_checkpoint(path: Path) -> str:
    """Return the state as text. A checkpoint that is skipped with a printed line counts as refused."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        state = Checkpoints(path.parent).load(CPU)
    if state is None:
        raise UserError(printed.getvalue().removesuffix("\n"))
    if not isinstance(state["steps"], int):
        raise TypeError(f"steps are {state['steps']!r}")
    return str(state)


SPLIT, NETWORK, CHECKPOINT = Path("prepared/train.npz"), network_path("small"), Path("run/00000007.pt")
ARRAY, PLAN_AND_RECORD, PICKLE = zip_member("images.npy"), metadata("network"), zip_member("archive/data.pkl")
READERS = (
    Reader("load_split", SPLIT, _make_split, _read_split, exact=True),
    Reader("load_split, one array", SPLIT, _make_split, _read_split, part=ARRAY),
    Reader("load_statistics", Path("statistics.json"), _make_statistics, _read_statistics, text=True),
    Reader("read_json", Path("a.json"), _make_mapping, _read_json, text=True),
    Reader("read_csv", Path("a.csv"), _make_rows, _read_rows, text=True),
    Reader("read_yaml", Path("a.yaml"), _make_yaml, _read_yaml, text=True),
    Reader("load_with_record", NETWORK, _make_network, _read_network),
    Reader("load_candidate, plan, record", NETWORK, _make_network, _read_candidate, text=True, part=PLAN_AND_RECORD),
    Reader("session (ONNX)", Path("a.onnx"), _make_onnx, _read_onnx),
    Reader("read_batch", Path("a.bin"), _make_batch, read_batch),
    Reader("unpack, tar", Path("a.tar"), _make_tar, _read_archive),
    Reader("unpack, tar.gz", Path("a.tar.gz"), _make_tar_gz, _read_archive, exact=True),
    Reader("unpack, tar.xz", Path("a.tar.xz"), _make_tar_xz, _read_archive, exact=True),
    Reader("read_curves", Path("curves/val/loss.tsv"), _make_curves, _read_curves, text=True),
    Reader("Checkpoints.load", CHECKPOINT, _make_checkpoint, _read_checkpoint, exact=True),
    Reader("Checkpoints.load, pickle", CHECKPOINT, _make_checkpoint, _read_checkpoint, part=PICKLE),
)


if __name__ == "__main__":
    exit_cleanly(main)
