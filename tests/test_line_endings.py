"""Every clone has the same bytes, whatever Git's settings are: DVC compares them."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "core.autocrlf=true", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_clone_with_the_settings_of_git_for_windows_has_the_same_bytes(tmp_path):
    git(ROOT, "clone", "--quiet", "--shared", ".", str(tmp_path))
    kinds = [line.split()[:2] for line in git(tmp_path, "ls-files", "--eol").splitlines()]
    assert {"i/lf", "i/-text"} <= {committed for committed, _ in kinds} <= {"i/lf", "i/-text", "i/none"}
    assert [checked_out for committed, checked_out in kinds if checked_out[1:] != committed[1:]] == []


def test_line_endings_of_windows_are_not_committed(tmp_path):
    git(tmp_path, "init", "--quiet")
    for name, content in ((".gitattributes", (ROOT / ".gitattributes").read_bytes()), ("new.csv", b"a,b\r\n")):
        (tmp_path / name).write_bytes(content)
    git(tmp_path, "add", ".")
    assert "i/lf    w/crlf" in git(tmp_path, "ls-files", "--eol", "new.csv")
