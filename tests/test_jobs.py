"""Several stages at once: the numbers that fit, the lines shown, and stages that end with whoever started them.

That two jobs give the bytes of one: tests/test_pipeline.py. Tests with Ray itself are skipped where it is missing.
"""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from commands import ENVIRONMENT, ROOT, run

from scripts import jobs
from src.core.errors import ParamsError, UserError

SLOW = """import time
try:
    print("started", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    open("checkpoint", "w").close()
    raise SystemExit(130)
"""
PIPELINE = """
stages:
  quick: {cmd: cp source quick, deps: [source], outs: [quick]}
  slow: {cmd: exec python slow.py, deps: [quick], outs: [slow]}
  broken: {cmd: "false", deps: [quick, slow]}
"""


@pytest.mark.parametrize(("jobs_", "threads", "cores"), [("1", None, 2), ("2", 1, 2), ("3", 2, 8), ("8", 1, 8)])
def test_as_many_threads_as_there_are_cores(jobs_, threads, cores):
    assert jobs.checked(jobs_, threads, cores) == int(jobs_)


@pytest.mark.parametrize("value", ["0", "3", "-1", "two", "", "1.5", "²"])
def test_a_number_that_does_not_fit(value):
    with pytest.raises(UserError, match=r"^JOBS: must be a whole number from 1 to 2, the cores of this machine"):
        jobs.checked(value, 1, 2)


@pytest.mark.parametrize(("threads", "found"), [(None, "null, all cores"), (5, "5"), (0, "0"), ("1", "'1'")])
def test_too_many_threads(threads, found):
    with pytest.raises(ParamsError, match=rf"^params\.yaml: threads: must be from 1 to 4 for JOBS=2 .*found {found}\)"):
        jobs.checked("2", threads, 8)


def test_without_ray_a_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"not installed: .*pip install -r requirements-parallel.txt$"):
        jobs.connected(2)
    assert "\nray==" in (ROOT / "requirements-parallel.txt").read_text()


def test_an_address_that_is_none_is_told_in_one_line(monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed (requirements-parallel.txt)")
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(UserError, match=r"^RAY_ADDRESS=nowhere: [^\n]+$"):
        jobs.connected(1)


def test_a_line_for_each_stage_that_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "LOGS", tmp_path)
    epochs = [f"epoch  {number:2d}  loss 1.5\n" for number in range(1, 6)]
    for name, log in {
        "export@slim.running": "writes the file\nmeasures\n",
        "compress@new.running": f"4 epochs to train, 2 PFLOP\n{epochs[0]}",
        "compress@resumed.running": "".join([*epochs[:3], "5 epochs to train, 2 PFLOP\n", *epochs[3:5]]),
        "compress@done.log": "".join(["1 epochs to train\n", *epochs[:1]]),
        "test@new.running": "",
    }.items():
        (tmp_path / name).write_text(log)
    (tmp_path / "csi.running").symlink_to("ended")  # stands in the list, and cannot be read any more
    assert [line.split() for line in jobs.running()] == [
        ["compress@new", "25%", "epoch", "1", "loss", "1.5"],
        ["compress@resumed", "62%", "epoch", "5", "loss", "1.5"],
        ["export@slim", "measures"],
        ["test@new"],
    ]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A toy project without Git, in which the command works."""
    for name in ("scripts", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name, text in {"source": "images", "slow.py": SLOW, "dvc.yaml": PIPELINE, "params.yaml": "threads: 1"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "logs/jobs").mkdir(parents=True)
    run(tmp_path, "dvc", "init", "-q", "--no-scm")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(stage):
    """The command for ``stage``, with a standard input that stays open."""
    command = [sys.executable, "-m", "scripts.job", stage]
    return subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, start_new_session=True)


def left(folder):
    """Stages, and processes for them, that work in ``folder``, those apart that have ended."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = re.search("dvc|slow.py|scripts.job", " ".join(process.cmdline()))
            if ours and process.cwd() == str(folder) and process.status() != "zombie":
                found.append(process)
        except psutil.Error:
            pass
    return found


def wait_for(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited for ten minutes")


def test_stages_in_an_order_in_which_they_can_run(project):
    assert jobs.pipeline() == {"quick": [], "slow": ["quick"], "broken": ["quick", "slow"]}


def test_one_stage_ends_well_or_badly(project):
    assert started("quick").wait(120) == 0
    assert (project / "quick").read_text() == "images"
    assert "Running stage 'quick'" in (project / "logs/jobs/quick.log").read_text()
    assert started("broken").wait(120) != 0
    assert sorted(path.name for path in (project / "logs/jobs").iterdir()) == ["broken.log", "quick.log"]


@pytest.mark.parametrize("end", [lambda process: process.stdin.close(), lambda process: process.kill()])
def test_a_stage_is_interrupted_when_whoever_started_it_is_gone(project, end):
    """Closing standard input is what the death of a worker does; Ray kills the command itself as well."""
    assert started("quick").wait(120) == 0
    process, log = started("slow"), project / "logs/jobs/slow.running"
    wait_for(lambda: log.exists() and log.read_text().endswith("started\n"))
    end(process)
    process.stdin.close()
    process.wait(120)
    wait_for(log.with_suffix(".log").exists)
    wait_for(lambda: not left(project))
    assert (project / "checkpoint").exists()
    assert "failed to reproduce 'slow'" in log.with_suffix(".log").read_text()


def kill(word):
    """A strike: kill -9 of one of the command's processes that has ``word`` in its own command."""

    def strike(command):
        children = command.children(recursive=True)
        next(child for child in children if word in " ".join(child.cmdline()[:3])).kill()

    return strike


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("strike", "line"),
    [
        (lambda command: os.killpg(command.pid, signal.SIGINT), "error: interrupted"),
        (psutil.Process.terminate, "error: interrupted"),
        (kill("slow.py"), "error: slow failed; its log is logs/jobs/slow.log"),
        (kill("ray::perform"), "error: slow failed; its log is logs/jobs/slow.log"),
        (psutil.Process.kill, None),
    ],
    ids=["Ctrl-C", "SIGTERM", "a stage dies", "a worker dies", "kill -9 of the command"],
)
def test_whatever_dies_all_stages_end_as_at_ctrl_c(project, strike, line, request):
    pytest.importorskip("ray", reason="Ray is not installed (requirements-parallel.txt)")
    command, log = [sys.executable, "-m", "scripts.jobs", "1"], project / "logs/jobs/slow.running"
    with (project / "printed").open("w+") as printed:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=printed, stderr=printed, start_new_session=True)
        wait_for(lambda: log.exists() and log.read_text().endswith("started\n"))
        strike(psutil.Process(process.pid))
        process.wait(600)
        wait_for(lambda: not left(project))
    text = (project / "printed").read_text()
    assert line is None or re.findall("^error: .*", text, re.MULTILINE) == [line]
    assert "Traceback" not in text
    assert (project / "checkpoint").exists() == ("a stage dies" not in request.node.name)
