"""Exit codes of commands, and what ends a stage."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.core import stage
from src.core.errors import ParamsError, UserError, exit_cleanly

ROOT = Path(__file__).parent.parent
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
TRAINING = """
import fcntl, os, signal, sys, termios, time
from pathlib import Path
from src.core.signals import interruption
from src.core.stage import run_stage

def main():
    with interruption() as interrupted:
        print("ready", flush=True)
        Path("printed").touch()  # only now the terminal may close without disturbing the line before
        while not interrupted():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGHUP)
        print("to a terminal that is closed", flush=True)
        Path(sys.argv[1]).write_text("whole")
        raise KeyboardInterrupt("interrupted in epoch 1")

if os.isatty(0):
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
run_stage(main)
"""


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (UserError("data/raw: missing"), 1, "error: data/raw: missing\n"),
        (ParamsError("params.yaml: seed: missing"), 2, "error: params.yaml: seed: missing\n"),
        (KeyboardInterrupt("interrupted in epoch 2"), 130, "error: interrupted in epoch 2\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (OSError(28, "No space left on device", "a.tsv"), 1, "error: a.tsv: No space left on device\n"),
        (PermissionError(13, "Permission denied", "data/a"), 1, "error: data/a: Permission denied\n"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device\n"),
    ],
)
def test_a_mistake_is_one_line_and_a_code(raised, code, line, capsys):
    def main():
        raise raised

    with pytest.raises(SystemExit) as exit_:
        exit_cleanly(main)
    assert exit_.value.code == code
    assert capsys.readouterr().err == line


def test_other_errors_of_the_system_are_not_hidden():
    with pytest.raises(FileNotFoundError):
        exit_cleanly(lambda: Path("nowhere/at/all").read_text())


@pytest.mark.parametrize("lines", [1, 100_000])  # in the buffer until the end, and more than it holds
def test_output_that_nobody_reads_ends_without_a_word(lines):
    code = f"from src.core.errors import exit_cleanly; input(); exit_cleanly(lambda: print('line\\n' * {lines}))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **PIPES)
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.fixture
def log(tmp_path, monkeypatch):
    """The log of times, in a folder of its own."""
    monkeypatch.setattr(stage, "LOG", tmp_path / "logs/minutes.csv")
    monkeypatch.setattr("sys.argv", ["stages/split.py"])
    return stage.LOG


def test_sigterm_ends_a_stage_in_one_line_and_what_it_began_is_removed(log, capsys):
    removed = []

    def main():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # a second one does not disturb this
            removed.append("temporary file")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit_:
        stage.run_stage(main)
    assert exit_.value.code == 130
    assert removed
    assert capsys.readouterr().err == "error: terminated\n"
    assert log.read_text().splitlines()[1].endswith(",0")
    assert signal.getsignal(signal.SIGTERM) == before


def started(tmp_path, *before, **streams):
    """A training that writes ``tmp_path/checkpoint`` when it is interrupted."""
    command = [*before, sys.executable, "-c", TRAINING, str(tmp_path / "checkpoint")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **streams)


def test_a_closed_terminal_leaves_a_checkpoint(tmp_path):
    ours, theirs = pty.openpty()
    process = started(tmp_path, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert b"ready" in os.read(ours, 100)
    deadline = time.monotonic() + 60
    while not (tmp_path / "printed").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.close(ours)
    assert process.wait(60) == 130
    assert (tmp_path / "checkpoint").read_text() == "whole"


def test_nohup_is_respected(tmp_path):
    process = started(tmp_path, "nohup", **PIPES)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)  # were SIGHUP heard as well, this were the second, which leaves no checkpoint
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (tmp_path / "checkpoint").exists()
    assert b"closed" in out
    assert err.endswith(b"error: interrupted in epoch 1\n")


def test_a_log_that_cannot_be_written_does_not_end_a_stage(log, capsys):
    log.parent.write_text("a file where the folder should be")
    stage.run_stage(lambda: None)
    assert f"{log}: cannot be written: File exists" in capsys.readouterr().err
