"""Writing results: whole or not at all."""

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


@pytest.mark.parametrize("read", [read_json, read_csv])
def test_unreadable_is_named(tmp_path, read):
    with pytest.raises(UserError, match="missing"):
        read(tmp_path / "missing")
    (tmp_path / "broken").write_bytes(b"")
    with pytest.raises(UserError, match="broken"):
        read(tmp_path / "broken")
