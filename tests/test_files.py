"""Files: written whole or not at all, JSON and CSV, damaged files."""

import errno
import math
import os
import re

import pytest

from src.core.errors import UserError
from src.core.files import atomic, read_csv, read_json, write_csv, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_takes_its_place_at_the_end(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with atomic(target) as temporary:
        temporary.write_text("b")
        assert not target.exists()
    assert names(target.parent) == ["a.txt"]


def test_folder_replaces_a_folder(tmp_path):
    target = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic(target) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert names(tmp_path) == ["folder"]
    assert names(target) == ["new"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_is_left_of_a_failure_and_the_old_stays(tmp_path, kind):
    target = tmp_path / "a"
    target.write_text("old")

    def fail():
        with atomic(target) as temporary:
            if kind == "file":
                temporary.write_text("half")
            else:
                temporary.mkdir()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == ["a"]
    assert target.read_text() == "old"


def test_two_processes_with_one_number_do_not_share_a_temporary_name(tmp_path, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: 1)  # as of every process that is the first one of a container
    used = set()
    for _ in range(2):
        with atomic(tmp_path / "folder") as temporary:
            temporary.mkdir()
            used.add(temporary)
    assert len(used) == 2


def test_an_error_with_another_file_is_no_error_of_writing(tmp_path):
    (tmp_path / "folder").mkdir()
    for other in (tmp_path / "missing", tmp_path / "folder"):
        with pytest.raises(OSError, match=re.escape(str(other))), atomic(tmp_path / "new"):
            other.read_text()
    with pytest.raises(ConnectionError), atomic(tmp_path / "new"):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_name_of_the_result(tmp_path, code):
    with pytest.raises(UserError, match=r"new: cannot be written: "), atomic(tmp_path / "new"):
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_replaced_is_told(tmp_path):
    with pytest.raises(UserError, match=r"new: cannot be written: "), atomic(tmp_path / "new"):
        pass  # nothing was written
    with pytest.raises(UserError, match=r"new: cannot be written: "), atomic(tmp_path / "new") as temporary:
        (temporary / "in/no/folder").write_text("x")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/a\.json: cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})


def test_floats_are_rounded_everywhere(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1 / 3, "in": {"list": [2 / 3, "text", None]}})
    assert read_json(tmp_path / "a.json") == {"x": 0.333333, "in": {"list": [0.666667, "text", None]}}
    write_csv(tmp_path / "a.csv", [{"x": 1 / 3, "y": "b"}])
    assert (tmp_path / "a.csv").read_text() == "x,y\n0.333333,b\n"
    assert read_csv(tmp_path / "a.csv") == [{"x": 0.333333, "y": "b"}]


def test_names_of_classes_stay_text(tmp_path):
    rows = [{"class": name, "x": 1} for name in ("007", "1e3", "true", "NA", "a, b", "é")]
    write_csv(tmp_path / "a.csv", rows)
    assert read_csv(tmp_path / "a.csv") == rows


def test_table_without_rows_keeps_its_header(tmp_path):
    write_csv(tmp_path / "a.csv", [], columns=("x", "y"))
    assert (tmp_path / "a.csv").read_text() == "x,y\n"
    assert read_csv(tmp_path / "a.csv") == []


def test_columns_are_written_in_their_order(tmp_path):
    write_csv(tmp_path / "a.csv", [{"x": 1, "y": "b", "z": 0.5}], columns=["y", "x"])
    assert (tmp_path / "a.csv").read_text() == "y,x\nb,1\n"


def test_cells_may_hold_commas_quotes_line_breaks_or_nothing(tmp_path):
    rows = [{"x": 'a "b", c\nd', "y": 1.0}, {"x": "é", "y": None}]
    write_csv(tmp_path / "a.csv", rows)
    first, second = read_csv(tmp_path / "a.csv")
    assert first == rows[0]
    assert second["x"] == "é"
    assert math.isnan(second["y"])


BROKEN = {
    read_json: [None, b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000, b"9" * 5000],
    read_csv: [None, b"", b"\n", b"\xff", b"x,y\n1\n", b"x,y\n1,2,3\n", b"x,y\n1,2\n1,2,3\n", b'x,y\n1,"2\n'],
}


@pytest.mark.parametrize(("read", "content"), [(read, content) for read in BROKEN for content in BROKEN[read]])
def test_unreadable_is_told_in_one_line_that_names_the_file(tmp_path, read, content):
    path = tmp_path / "broken"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(path)
    (line,) = str(caught.value).splitlines(keepends=True)
    assert line.startswith(f"{path}: not readable: ")
    assert line.strip() == line


def test_names_that_look_like_missing_values_stay_names(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("recipe,points\nNA,1.5\nnull,\n")
    first, second = read_csv(path, "recipe")
    assert (first["recipe"], second["recipe"], first["points"]) == ("NA", "null", 1.5)
    assert second["points"] != second["points"]


def test_what_is_missing_is_named(tmp_path):
    table, tree = tmp_path / "table.csv", tmp_path / "tree.json"
    table.write_text("a,b\n1,2\n")
    tree.write_text('{"a": 1}')
    assert read_csv(table, "a", "b") == [{"a": 1, "b": 2}]
    assert read_json(tree, "a") == {"a": 1}
    with pytest.raises(UserError, match=r"table\.csv: not readable: c, d is missing"):
        read_csv(table, "a", "c", "d")
    with pytest.raises(UserError, match=r"tree\.json: not readable: b is missing"):
        read_json(tree, "a", "b")
