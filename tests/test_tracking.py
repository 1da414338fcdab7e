"""Curves: the plain tracker writes what DVCLive writes."""

from types import SimpleNamespace

from src.training import tracking
from src.training.tracking import PlainLive, Tracker

ROWS = [
    {"train/loss": 2.123456, "train/accuracy": 0.25, "val/loss": 1.5, "learning_rate": 1e-05, "image_size": 16},
    {"train/loss": 1.0, "train/accuracy": 0.5, "val/loss": 1.25, "learning_rate": 0.01, "image_size": 32},
]


def written(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_plain_and_dvclive_write_the_same_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folders = [tmp_path / "with", tmp_path / "without"]
    for folder in folders:
        tracker = Tracker("test", 100, folder)
        for row in ROWS:
            tracker.step(1, 1, 1)
            tracker.epoch(row)
        tracker.close()
        monkeypatch.setattr(tracking, "_live", lambda folder: PlainLive(str(folder)))
    first, second = map(written, folders)
    assert first == second
    assert len(first) == len(ROWS[0]) + 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "epoch   2" in lines[1]
    assert (tmp_path / "logs" / "test.log").read_text().splitlines() == lines


def test_pace_after_a_resume_counts_the_steps_of_this_run_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clock = iter([0.0, 0.0, 4.0])  # when the tracker, its bar and the epoch's line are made
    monkeypatch.setattr(tracking, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    tracker = Tracker("test", 1000, tmp_path / "curves")
    for done in (9, 10):
        tracker.step(1, done, 10)
    tracker.epoch({"loss": 1.0})
    tracker.close()
    assert capsys.readouterr().out.endswith("  4 s, 50 images/s\n")
