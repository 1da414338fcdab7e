"""The Makefile: what reaches a command from the command line, the environment and the folder's name."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN = ("MAKE", "MFLAGS", "SCRATCH_FOLDER", "CIFAR10_ARCHIVE")  # variables of whoever runs the tests
COPIED = ("Makefile", "demo.overrides", "requirements.txt")
STRANGE = 'a "quoted" `folder` of $HOME, it\'s'
# Stands for .venv/bin/python: prints its surroundings in one line, and each argument in another
PYTHON = """#!/bin/sh
echo "python $SCRATCH_FOLDER:$CIFAR10_ARCHIVE"
printf '%s\\n' "$@"
"""


@pytest.fixture
def make(tmp_path):
    """A function that runs make in a copy, which lies in a folder with a strange name; it returns what was printed."""
    folder = tmp_path / STRANGE
    (folder / ".venv/bin").mkdir(parents=True)
    for name in COPIED:
        shutil.copy(ROOT / name, folder)
    (folder / ".venv/bin/python").write_text(PYTHON)
    (folder / ".venv/bin/python").chmod(0o755)
    (folder / ".venv/installed").touch()

    variables = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}

    def run(*arguments, **environment):
        command = [shutil.which("make"), *arguments]
        done = subprocess.run(command, cwd=folder, env=variables | environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.folder = folder
    return run


def test_help_lists_the_targets_with_few_tools(make, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("awk", "git"):
        (tools / name).symlink_to(shutil.which(name))
    shown = make("help", PATH=str(tools))
    assert "make clean    Delete .venv" in shown
    assert len(shown.splitlines()) > 10


def last_command(printed):
    """The arguments of the last call of Python."""
    return printed.rpartition("python :\n")[2].splitlines()


@pytest.mark.parametrize(
    "name", ["price $5.jpg", 'it\'s "a" `b` \\c.jpg', "$(error no) #1.jpg", "a,b  c.jpg", "$HOME.jpg"]
)
def test_values_reach_the_command_as_they_are(make, name):
    assert last_command(make("predict", f"IMAGE={name}")) == ["-m", "scripts.predict", name]
    assert last_command(make("report", f"REV={name}")) == ["-m", "scripts.report", f"--rev={name}"]
    assert last_command(make("try", f"RECIPE={name}")) == ["-m", "scripts.try_recipe", name]


def test_repro_with_and_without_jobs(make):
    assert last_command(make("repro", JOBS="4")) == ["-m", "dvc", "repro"]
    assert last_command(make("repro", "JOBS=4")) == ["-m", "scripts.jobs", "4"]


def test_search_with_its_options(make):
    options = ["TRIALS=40", "SAMPLER=random", "BUDGET=0.5", "LONG=2"]
    given = ["--trials=40", "--sampler=random", "--budget=0.5", "--long=2"]
    assert last_command(make("search", "MACS=75e6", *options)) == ["-m", "scripts.search", "75e6", *given]
    assert last_command(make("search", "MACS=75e6", TRIALS="7")) == ["-m", "scripts.search", "75e6"]


def test_the_environment_is_no_argument(make):
    surroundings = {"NAME": "a-computer", "REV": "7", "IMAGE": "an-image", "RECIPE": "cake"}
    assert last_command(make("report", **surroundings)) == ["-m", "scripts.report"]
    assert last_command(make("predict", **surroundings)) == ["-m", "scripts.predict"]
    assert last_command(make("study", "NAME=separation", **surroundings)) == ["-m", "studies.separation"]
    with pytest.raises(AssertionError, match="say which"):
        make("study", **surroundings)


def test_demo_in_a_folder_with_a_strange_name_and_overrides_from_windows(make, tmp_path):
    (tmp_path / "$HOME.tar.gz").touch()
    overrides = make.folder / "demo.overrides"
    overrides.write_bytes(overrides.read_bytes().replace(b"\n", b"\r\n"))
    lines = make("demo", CIFAR10_ARCHIVE="../$HOME.tar.gz").splitlines()
    assert f"python {make.folder}/scratch:{tmp_path}/$HOME.tar.gz" in lines
    options = [line for before, line in itertools.pairwise(lines) if before == "-S"]
    wanted = [line for line in (ROOT / "demo.overrides").read_text().splitlines() if line and line[0] != "#"]
    assert options == wanted
