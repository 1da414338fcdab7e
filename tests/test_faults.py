"""Faults on purpose: a short pass of each, and that a broken promise is seen."""

import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from checks import faults
from checks.faults import FAULTS, Done, Fault, Project, judged, state

TRACEBACK = "Traceback (most recent call last):\n"
FAILED = Done(1, "", 1)


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory):
    """The first two stages, run undisturbed."""
    return faults.undisturbed(tmp_path_factory.mktemp("faults") / faults.STRANGE, ["download", "split"])


@pytest.mark.parametrize("name", FAULTS)
def test_short_pass(two_stages, name):
    tried = dict(faults.tries(two_stages, FAULTS[name], ["download", "split"]))
    assert len(tried) == 6
    assert [*filter(None, tried.values())] == []


@pytest.fixture
def project(tmp_path):
    """A project with one stage, whose outputs are a file and a folder."""
    folder = tmp_path / "project"
    outs = ["models/a.onnx", "data/raw/1.bin", "data/raw/2.bin"]
    for name in outs:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"all of {name}")
    return Project(folder, state(folder), {"make": outs}, {"make": 3})


@pytest.mark.parametrize(
    ("code", "printed", "mistakes"),
    [
        (0, "", []),
        (1, "3 epochs to train\nerror: a.csv: damaged\nThree ways out:\n", []),
        (2, "error: a.csv: damaged\n", ["ends with 2: error: a.csv: damaged\n"]),
        (None, "error: a.csv: damaged\n", ["ends with None: error: a.csv: damaged\n"]),
        (1, "a.csv: damaged\n", ["says []"]),
        (1, "error: a.csv: damaged\nerror: logs\n", ["says ['error: a.csv: damaged', 'error: logs']"]),
        (1, "error: params.yaml: no\n", ["says ['error: params.yaml: no']"]),
        (1, f"error: a.csv: damaged\n{TRACEBACK}", ["prints a traceback"]),
    ],
)
def test_one_line_with_the_words_and_the_code_is_right(project, code, printed, mistakes):
    assert judged(project, "make", Done(code, printed, 1), Fault(None, 1, "damaged")) == mistakes


@pytest.mark.parametrize("name", ["models/a.onnx", "data/.raw.123/1.bin", "temporary", ".a.onnx.4"])
def test_half_an_output_and_what_is_left_behind_are_seen(project, name):
    path = project.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("half")
    found = judged(project, "make", FAILED, Fault(None, 1))
    assert f"leaves {name}" in found
    assert all(mistake.startswith("leaves ") for mistake in found)
    killed = judged(project, "make", Done(-signal.SIGKILL, "", 1), Fault(None, -signal.SIGKILL))
    assert bool(killed) == ("/." not in f"/{name}")
    faults.clean(project)
    assert state(project.folder).keys() == project.reference.keys()


def test_a_missing_output_is_a_mistake_where_the_stage_ended_well(project):
    (project.folder / "data/raw/2.bin").unlink()
    assert judged(project, "make", FAILED, Fault(None, 1)) == []
    assert judged(project, "make", Done(0, "", 1), Fault(None, 1)) == ["lacks data/raw/2.bin"]


@pytest.mark.parametrize("path", [*faults.TIMED, f"{faults.GROWING}loss.tsv"])
def test_timings_may_differ_and_curves_may_be_shorter_after_a_failure(project, path):
    (project.folder / path).parent.mkdir(parents=True)
    (project.folder / path).write_text("a part")
    project = replace(project, reference=state(project.folder) | {path: b"the whole"})
    assert judged(project, "make", FAILED, Fault(None, 1)) == []
    assert judged(project, "make", Done(0, "", 1), Fault(None)) == ([] if path in faults.TIMED else [f"leaves {path}"])


def writes():
    for name in ("models/one", "models/two", "models/three"):
        Path(name).write_text("whole")
    Path("models/three").rename("models/four")
    Path("logs").mkdir()
    Path("logs/minutes.csv").write_text("not counted")


@pytest.mark.parametrize(
    ("work", "code", "printed", "count"),
    [
        (partial(sys.exit, "too bad"), 1, "too bad", 0),
        (partial(time.sleep, 600), None, "", 0),
        (writes, 0, "", 4),
    ],
)
def test_what_a_stage_does_is_seen(project, monkeypatch, work, code, printed, count):
    monkeypatch.setattr(faults, "SECONDS", 1 if code is None else 60)
    monkeypatch.setattr(faults.runpy, "run_module", lambda *_, **__: work())
    done = faults.run(project.folder, "make")
    assert (done.code, done.writes) == (code, count)
    assert printed in done.printed


def test_a_fault_strikes_before_the_write_with_its_number_and_outputs_are_removed_before(project, monkeypatch):
    monkeypatch.setattr(faults.runpy, "run_module", lambda *_, **__: writes())
    done = faults.run(project.folder, "make", project.outs["make"], FAULTS["kill -9"], 3)
    assert (done.code, done.writes) == (-signal.SIGKILL, 3)
    assert sorted(path.name for path in (project.folder / "models").iterdir()) == ["one", "two"]
