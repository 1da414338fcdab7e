"""The Makefile: what reaches a command from the command line, the environment and the folder's name."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COPIED = ("Makefile", "demo.overrides", "requirements.txt")
STRANGE = 'a "quoted" `folder` of $HOME, it\'s'
# Stands for .venv/bin/python: prints its surroundings in one line, and each argument in another
PYTHON = """#!/bin/sh
echo "$SCRATCH_FOLDER:$CIFAR10_ARCHIVE"
printf '%s\\n' "$@"
"""


@pytest.fixture
def make(tmp_path):
    """A function that runs make in a copy, which lies in a folder with a strange name, and returns its lines."""
    folder = tmp_path / STRANGE
    (folder / ".venv/bin").mkdir(parents=True)
    for name in COPIED:
        shutil.copy(ROOT / name, folder)
    (folder / ".venv/bin/python").write_text(PYTHON)
    (folder / ".venv/bin/python").chmod(0o755)
    (folder / ".venv/installed").touch()

    def run(*arguments, **environment):
        command = [shutil.which("make"), *arguments]
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(command, cwd=folder, env=variables | environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    run.folder = folder
    return run


def test_help_lists_the_targets_with_few_tools(make, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("awk", "git"):
        (tools / name).symlink_to(shutil.which(name))
    lines = make("help", PATH=str(tools))
    assert "make clean    Delete .venv" in "\n".join(lines)
    assert len(lines) > 10


@pytest.mark.parametrize(
    "name", ["price $5.jpg", 'it\'s "a" `b` \\c.jpg', "$(error no) #1.jpg", "a,b  c.jpg", "$HOME.jpg"]
)
def test_values_reach_the_command_as_they_are(make, name):
    assert make("predict", f"IMAGE={name}")[1:] == ["-m", "scripts.predict", name]
    assert make("report", f"REV={name}")[1:] == ["-m", "scripts.report", f"--rev={name}"]
    assert make("try", f"RECIPE={name}")[1:] == ["-m", "scripts.try_recipe", name]


def test_the_environment_is_no_argument(make):
    surroundings = {"NAME": "a-computer", "REV": "7", "IMAGE": "an-image", "RECIPE": "cake"}
    assert make("report", **surroundings)[1:] == ["-m", "scripts.report"]
    assert make("predict", **surroundings)[1:] == ["-m", "scripts.predict"]
    assert make("study", "NAME=separation", **surroundings)[1:] == ["-m", "studies.separation"]
    with pytest.raises(AssertionError, match="say which"):
        make("study", **surroundings)


def test_demo_in_a_folder_with_a_strange_name_and_overrides_from_windows(make, tmp_path):
    (tmp_path / "$HOME.tar.gz").touch()
    overrides = make.folder / "demo.overrides"
    overrides.write_bytes(overrides.read_bytes().replace(b"\n", b"\r\n"))
    lines = make("demo", CIFAR10_ARCHIVE="../$HOME.tar.gz")
    assert f"{make.folder}/scratch:{tmp_path}/$HOME.tar.gz" in lines
    options = [line for before, line in itertools.pairwise(lines) if before == "-S"]
    wanted = [line for line in (ROOT / "demo.overrides").read_text().splitlines() if line and line[0] != "#"]
    assert options == wanted
