"""The fuzzer: a short pass over every reader, and what counts as a leak."""

import os
import struct
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from checks import fuzz
from checks.fuzz import ARRAY, MUTATIONS, PICKLE, PLAN_AND_RECORD, READERS, Reader, replace_word
from src.core.errors import UserError, exit_cleanly

FILES = 30
VALID = b"valid content " * 20


def reader(read, **settings):
    """A reader that returns the valid content, and calls ``read`` with the path for anything else."""

    def either(path):
        return VALID if path.read_bytes() == VALID else read(path)

    return Reader("mine", Path("folder/a.txt"), lambda path: path.write_bytes(VALID), either, **settings)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_short_pass(reader, tmp_path):
    outcomes = fuzz.fuzz(reader, FILES, 0, tmp_path)
    assert len(outcomes) == FILES
    assert not [outcome for outcome in outcomes if outcome.kind == "leak"]
    assert "refused" in {outcome.kind for outcome in outcomes}


def refuse(path):
    raise UserError(f"{path}: not valid")


def refuse_the_folder(path):
    raise UserError(f"{path.parent}: not valid")


@pytest.mark.parametrize("read", [refuse, refuse_the_folder])
def test_one_line_that_names_file_or_folder_is_no_leak(read, tmp_path):
    assert {outcome.kind for outcome in fuzz.fuzz(reader(read), 3, 0, tmp_path)} == {"refused"}


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


def say(path):
    print("mind the gap")


def say_in_c(path):
    os.write(2, b"mind the gap\n")


def hang(path):
    time.sleep(60)


def end(path):
    os._exit(3)


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (leak, "ValueError: too bad"),
        (two_lines, "not one line"),
        (line_break_at_the_end, "not one line"),
        (no_name, "does not name the file"),
        (warn, "warning: mind the gap"),
        (say, "printed: 'mind the gap"),
        (say_in_c, "printed: 'mind the gap"),
        (hang, "hang: "),
        (end, "death: the process ended with 3"),
    ],
)
def test_leak_is_told_and_its_file_is_kept(read, reason, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    outcomes = fuzz.fuzz(reader(read), 2, 0, tmp_path / "kept")
    assert [outcome.kind for outcome in outcomes] == ["leak", "leak"]
    for index, outcome in enumerate(outcomes):
        assert outcome.reason.startswith(reason)
        assert Path(outcome.kept).read_bytes() == fuzz.mutant(reader(read), VALID, 0, index)


def test_another_value_is_a_leak_only_where_there_are_checksums(tmp_path):
    (outcome,) = fuzz.fuzz(reader(Path.read_bytes), 1, 0, tmp_path)
    assert outcome.kind == "read"
    (outcome,) = fuzz.fuzz(reader(Path.read_bytes, exact=True), 1, 0, tmp_path)
    assert (outcome.kind, outcome.reason) == ("leak", "another value")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_memory_is_limited(tmp_path):
    (outcome,) = fuzz.fuzz(reader(lambda path: bytes(2 * fuzz.MEMORY)), 1, 0, tmp_path)
    assert outcome.reason.startswith("MemoryError")


def test_reader_of_no_valid_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="mine: the valid file is not read"):
        fuzz.fuzz(Reader("mine", Path("a.txt"), Path.touch, leak), 2, 0, tmp_path)


@pytest.mark.parametrize(("read", "code"), [(leak, 1), (refuse, None)])
def test_leak_ends_the_command_with_1(read, code, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "READERS", (reader(read),))
    monkeypatch.setattr(fuzz, "KEPT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["fuzz", "--files", "4"])
    if code is None:
        exit_cleanly(fuzz.main)
    else:
        with pytest.raises(SystemExit) as caught:
            exit_cleanly(fuzz.main)
        assert caught.value.code == code
    printed = capsys.readouterr()
    counts = "0 read      0 refused      4 leaked" if code else "0 read      4 refused      0 leaked"
    assert counts in printed.out
    assert (f"4 times ValueError: too bad ({tmp_path / 'mine-0.txt'})" in printed.out) == bool(code)
    assert printed.err == ("error: leaks in mine; see above\n" if code else "")


def test_same_seed_makes_the_same_files():
    made = [[fuzz.mutant(reader(refuse), VALID, seed, index) for index in range(50)] for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]
    assert len(set(made[0])) > 45


@pytest.mark.parametrize("mutation", [*dict.fromkeys(MUTATIONS), replace_word])
@pytest.mark.parametrize("content", [b"", b"a", VALID])
def test_every_mutation_takes_every_content(mutation, content):
    rng = np.random.default_rng(0)
    changed = {mutation(content, rng) for _ in range(20)}
    assert all(isinstance(found, bytes) for found in changed)
    assert len(changed) > 10 or content != VALID


def placed(reader, folder, monkeypatch):
    """The path of the valid file of ``reader``, written to ``folder``, which becomes the working folder."""
    monkeypatch.chdir(folder)
    reader.path.parent.mkdir(parents=True, exist_ok=True)
    reader.make(reader.path)
    return reader.path


WITH_PART = [reader for reader in READERS if reader.part in (ARRAY, PLAN_AND_RECORD, PICKLE)]


@pytest.mark.parametrize("reader", WITH_PART, ids=lambda reader: reader.name)
def test_part_is_put_where_it_was_taken_from(reader, tmp_path, monkeypatch):
    path = placed(reader, tmp_path, monkeypatch)
    whole, part, value = path.read_bytes(), reader.part, reader.read(path)
    assert part.take(part.put(whole, b"other")) == b"other"
    path.write_bytes(part.put(whole, part.take(whole)))
    assert reader.read(path) == value


def swapped(old, new):
    def change(whole):
        assert old in whole
        return whole.replace(old, new)

    return change


FOUND = [
    ("read_json", lambda whole: b"[" * 100_000),
    ("read_json", lambda whole: b"[]"),
    ("read_csv", lambda whole: b"a,b\n1,2\n1,2,3\n"),
    ("read_csv", lambda whole: b"a,b\n1,2,3\n"),
    ("read_yaml", lambda whole: b"[" * 100_000),
    ("read_yaml", lambda whole: b"a: " + b"9" * 5000),
    ("read_yaml", lambda whole: b"a: !!int ''"),
    ("read_yaml", lambda whole: b"a: 2024-99-99"),
    ("load_with_record", swapped(rb"\"padding\": 1", rb"\"padding\": 0")),  # a kernel larger than its map
    (
        "load_with_record",
        lambda whole: PLAN_AND_RECORD.put(whole, PLAN_AND_RECORD.take(whole).replace(b"record", b"x")),
    ),
    ("session (ONNX)", swapped(b"logits", b"logitz")),
    ("session (ONNX)", swapped(b"images", b"image_")),
    ("Checkpoints.load", swapped(struct.pack("<f", 5), struct.pack("<f", 6))),  # PyTorch does not look at checksums
    ("Checkpoints.load, pickle", lambda whole: PICKLE.put(whole, b"\x80\x02]q\x00.")),  # a list
]


@pytest.mark.parametrize(("name", "change"), FOUND)
def test_what_the_fuzzer_found_is_told_in_one_line(name, change, tmp_path, monkeypatch):
    reader = next(reader for reader in READERS if reader.name == name)
    path = placed(reader, tmp_path, monkeypatch)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError) as caught:
        reader.read(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: ")
