"""The fuzzer: a short pass over every reader, what counts as a leak, and what it found before."""

import os
import struct
import sys
import time
import warnings
from pathlib import Path

import pytest

from checks import fuzz
from checks.readers import READERS, Reader
from src.core.errors import UserError, exit_cleanly

BY_NAME = {reader.name: reader for reader in READERS}
VALID = b"valid content " * 20


def reader(read, **settings):
    """A reader that returns the valid content, and calls ``read`` with the path for anything else."""

    def either(path):
        return VALID if path.read_bytes() == VALID else read(path)

    return Reader("mine", Path("folder/a.txt"), VALID, either, **settings)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_short_pass(reader, tmp_path):
    assert fuzz.fuzz(reader, 10, kept=tmp_path) == ""


def refuse(path):
    raise UserError(f"{path}: not valid")


def refuse_the_folder(path):
    raise UserError(f"{path.parent}: not valid")


@pytest.mark.parametrize("read", [refuse, refuse_the_folder, Path.read_bytes])
def test_a_value_or_one_line_that_names_file_or_folder_is_no_leak(read, tmp_path):
    assert fuzz.fuzz(reader(read), 5, kept=tmp_path) == ""


def leak(path):
    raise ValueError("too\nbad")


def two_lines(path):
    raise UserError(f"{path}: not\nvalid")


def line_break_at_the_end(path):
    raise UserError(f"{path}: not valid\n")


def no_name(path):
    raise UserError("not valid")


def warn(path):
    warnings.warn("mind the gap", stacklevel=1)


def say_in_c(path):
    os.write(2, b"mind the gap\n")


def litter(path):
    path.with_name("litter").touch()


def hang(path):
    time.sleep(60)


def end(path):
    os._exit(3)


def take_memory(path):
    return bytes(2 * fuzz.MEMORY)


@pytest.mark.parametrize(
    ("read", "settings", "told"),
    [
        (leak, {}, "ValueError: too bad"),
        (two_lines, {}, "not one line that names it: folder"),
        (line_break_at_the_end, {}, "not one line that names it: folder"),
        (no_name, {}, "not one line that names it: not valid"),
        (warn, {}, "warning: mind the gap"),
        (print, {}, "printed: 'folder/a.txt"),
        (say_in_c, {}, "printed: 'mind the gap"),
        (litter, {}, "leaves folder/litter"),
        (hang, {}, "the process died, or did not read the file within 1 seconds"),
        (end, {}, "the process died"),
        (Path.read_bytes, {"exact": True}, "another value: b'"),
        (Path.read_bytes, {"kind": str}, "another value: b'"),
        pytest.param(
            *(take_memory, {}, "MemoryError"),
            marks=pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only"),
        ),
    ],
)
def test_a_leak_is_told_and_its_file_is_kept(read, settings, told, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    found = fuzz.fuzz(reader(read, **settings), 5, kept=tmp_path / "kept")
    assert found.startswith(told)
    assert found.endswith(f" ({tmp_path / 'kept/mine.txt'})")


def test_the_file_that_is_kept_is_the_one_that_leaked(tmp_path):
    def read(path):
        assert b"!" not in path.read_bytes()

    assert fuzz.fuzz(reader(read), 300, kept=tmp_path).startswith("AssertionError")
    assert b"!" in (tmp_path / "mine.txt").read_bytes()


def test_a_reader_of_no_valid_file_leaks(tmp_path):
    assert fuzz.fuzz(Reader("mine", Path("a.txt"), VALID, leak), 5, kept=tmp_path).startswith("the valid file")


@pytest.mark.parametrize(("read", "code"), [(leak, 1), (refuse, None)])
def test_a_leak_ends_the_command_with_1(read, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fuzz, "READERS", (reader(read),))
    monkeypatch.setattr(sys, "argv", ["fuzz", "--files", "4"])
    if code is None:
        exit_cleanly(fuzz.main)
    else:
        with pytest.raises(SystemExit, match="1"):
            exit_cleanly(fuzz.main)
    printed = capsys.readouterr()
    assert printed.out == ("mine: ValueError: too bad (scratch/fuzz/mine.txt)\n" if code else "mine: held\n")
    assert printed.err == ("error: leaks in mine; see above\n" if code else "")


def swapped(old, new):
    def change(valid):
        assert old in valid
        return valid.replace(old, new)

    return change


FOUND = [
    ("json", lambda _: b"[" * 100_000),
    ("json", lambda _: b"[]"),
    ("csv", lambda _: b"a,b\n1,2\n1,2,3\n"),
    ("csv", lambda _: b"a,b\n1,2,3\n"),
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
]


@pytest.mark.parametrize(("name", "change"), FOUND)
def test_what_the_fuzzer_found_is_told_in_one_line(name, change, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reader = BY_NAME[name]
    reader.path.parent.mkdir(parents=True, exist_ok=True)
    reader.path.write_bytes(reader.whole(change(reader.valid)))
    with pytest.raises(UserError) as caught:
        reader.read(reader.path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{reader.path}: ")
