"""Every clone has the same bytes, whatever Git's settings are: DVC compares them."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True).stdout


def test_a_clone_with_the_settings_of_git_for_windows_has_the_same_bytes(tmp_path):
    git("-c", "core.autocrlf=true", "clone", "--quiet", "--shared", str(ROOT), str(tmp_path))
    (tmp_path / "new.csv").write_bytes(b"a,b\r\n")
    git("-C", str(tmp_path), "-c", "core.autocrlf=true", "add", "new.csv")
    assert git("-C", str(tmp_path), "cat-file", "blob", ":new.csv") == b"a,b\n"
    rows = [line.split(maxsplit=3) for line in git("-C", str(tmp_path), "ls-files", "--eol").decode().splitlines()]
    assert {index.removeprefix("i/") for index, *_ in rows} == {"lf", "none", "-text"}
    assert [row for row in rows if row[0][1:] != row[1][1:] and row[-1] != "new.csv"] == []
