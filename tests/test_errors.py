"""Exit codes of commands, and what ends a stage."""

import os
import signal
from pathlib import Path

import pytest

from src.core import stage
from src.core.errors import ParamsError, UserError, exit_cleanly


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


def test_a_log_that_cannot_be_written_does_not_end_a_stage(log, capsys):
    log.parent.write_text("a file where the folder should be")
    stage.run_stage(lambda: None)
    assert f"{log}: cannot be written: File exists" in capsys.readouterr().err
