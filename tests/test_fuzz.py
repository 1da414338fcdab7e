"""Damaged files for every reader of files: ten each, or as many as `pytest tests/test_fuzz.py --files=1000` says.

Hypothesis cuts, flips, inserts, repeats and replaces pieces of a valid file, or puts a foreign file in its place. The
reader must return a value of the promised form, or raise a `UserError` of one line that names the file. Nothing else:
no other exception, no warning, no printed line, no file left behind, no hang, no death of the process. Where a format
has checksums, the value must be the one that was written. pytest keeps the file that breaks this in its folder.

What is not found: a changed number in a format without checksums, and memory below `MEMORY`, which is limited on Linux.
"""

import re
import resource
import struct
import warnings
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from readers import FOREIGN, READERS

from src.core.errors import UserError

SECONDS = 30  # that a read may take
MEMORY = 2 << 30  # bytes that a reader may take, and
WRITTEN = 64 << 20  # bytes of a file that it may write
HEADER = 700  # bytes at the start and at the end of a file where most of its structure lies
SEARCH = hypothesis.settings(
    phases=[hypothesis.Phase.generate],
    deadline=1000 * SECONDS,
    database=None,
    suppress_health_check=hypothesis.HealthCheck,
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


@pytest.fixture
def limited():
    """Limit what this process may take and write."""
    limits = {resource.RLIMIT_FSIZE: WRITTEN}
    pages = Path("/proc/self/statm")  # only on Linux
    if pages.exists():
        limits[resource.RLIMIT_AS] = int(pages.read_text().split()[0]) * resource.getpagesize() + MEMORY
    before = {kind: resource.getrlimit(kind) for kind in limits}
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, before[kind][1]))
    yield
    for kind, old in before.items():
        resource.setrlimit(kind, old)


@st.composite
def damaged(draw, valid):
    """Draw what one or two kinds of damage leave of ``valid``, or of a foreign file."""
    content = draw(st.sampled_from((*[valid] * 20, *FOREIGN)))
    for _ in range(draw(st.sampled_from((1, 1, 2)))):
        words = [*WORD.finditer(content[: 100 * HEADER])] if content.isascii() else []
        at_word = words and draw(st.booleans())
        start, stop = draw(st.sampled_from([word.span() for word in words]) if at_word else few(len(content)))
        before, piece, after = content[:start], content[start:stop], content[stop:]
        other = st.sampled_from([word[0] for word in words]) if words else st.binary(max_size=16)
        new = draw(st.sampled_from(STRANGE) | other)
        flipped = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in piece[:1])
        replaced, inserted = before + new + after, before + new + piece + after
        ways = (
            *(replaced, replaced, inserted, before + flipped + piece[1:] + after),
            *(before + piece + piece + after, before + after, before),
        )
        content = ways[draw(st.integers(0, len(ways) - 1))]
    return content


def few(size):
    """Start and stop of a few bytes, more often near the ends of a file of ``size`` bytes."""
    near = min(HEADER, size)
    start = st.integers(0, near) | st.integers(size - near, size) | st.integers(0, size)
    return st.tuples(start, st.integers(1, 16)).map(lambda place: (place[0], sum(place)))


def write(reader, content):
    reader.path.parent.mkdir(parents=True, exist_ok=True)
    reader.path.write_bytes(reader.whole(content))


def refusal(reader, expected):
    """The `UserError` of ``reader`` as text; "" if it reads its file, as a value of the promised form."""
    try:
        value = reader.read(reader.path)
    except UserError as error:
        return str(error)
    assert isinstance(value, reader.kind)
    assert not reader.exact or value == expected
    return ""


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_damaged_file_is_read_or_refused_in_one_line(reader, tmp_path, monkeypatch, capfd, pytestconfig):
    monkeypatch.chdir(tmp_path)
    write(reader, reader.valid)
    expected, there = reader.read(reader.path), {*Path().rglob("*")}
    capfd.readouterr()

    @hypothesis.seed(0)
    @hypothesis.settings(SEARCH, max_examples=pytestconfig.getoption("files"))
    @hypothesis.given(damaged(reader.valid))
    def rule(content):
        write(reader, content)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for category, message in SILENT:
                warnings.filterwarnings("ignore", message, category)
            line = refusal(reader, expected)
        assert line.splitlines() == [line] * bool(line)
        assert not line or line.startswith(tuple(f"{place}: " for place in (reader.path, *reader.path.parents)))
        assert not [str(warning.message) for warning in warned]
        assert capfd.readouterr() == ("", "")
        assert {*Path().rglob("*")} == there

    rule()


def swapped(old, new):
    def change(valid):
        assert old in valid
        return valid.replace(old, new)

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("yaml", lambda _: b"[" * 100_000),
        ("yaml", lambda _: b"a: " + b"9" * 5000),
        ("yaml", lambda _: b"a: !!int ''"),
        ("yaml", lambda _: b"a: 2024-99-99"),
        ("network, header", swapped(rb"\"padding\": 1", rb"\"padding\": 0")),  # a kernel larger than its map
        ("network, header", swapped(rb"record", rb"x")),
        ("onnx", swapped(b"logits", b"logitz")),
        ("onnx", swapped(b"images", b"image_")),
        ("checkpoint", swapped(struct.pack("<f", 5), struct.pack("<f", 6))),  # PyTorch does not look at checksums
        ("checkpoint, pickle", lambda _: b"\x80\x02]q\x00."),  # a list
    ],
)
def test_what_was_found_before_is_told_in_one_line(name, change, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (reader,) = (reader for reader in READERS if reader.name == name)
    write(reader, change(reader.valid))
    line = refusal(reader, None)
    assert line.splitlines() == [line]
    assert line.startswith(f"{reader.path}: ")
