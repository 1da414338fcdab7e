"""What people see of a training run: curves, lines, the time it will take."""

import json
from types import SimpleNamespace

import pytest
import torch

from src.training import estimate, tracking
from src.training.tracking import Tracker

ROWS = [
    {"train/loss": 2.123456, "train/accuracy": 0.25, "val/loss": 1.5, "learning_rate": 1e-05, "image_size": 16},
    {"train/loss": 1.0, "train/accuracy": 0.5, "val/loss": 1.25, "learning_rate": 0.01, "image_size": 32},
]


def test_an_epoch_is_a_row_of_each_curve_and_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tracker = Tracker("test", 100, tmp_path / "curves")
    for row in ROWS:
        tracker.step(1, 1, 1)
        tracker.epoch(row)
    tracker.close()
    curves = tmp_path / "curves/plots/metrics"
    assert {str(path.relative_to(curves).with_suffix("")) for path in curves.rglob("*.tsv")} == set(ROWS[0])
    assert (curves / "train/loss.tsv").read_text() == "step\tloss\n1\t2.123456\n2\t1.0\n"
    assert json.loads((tmp_path / "curves/metrics.json").read_text())["train"] == {"loss": 1.0, "accuracy": 0.5}
    shown = capsys.readouterr()
    assert shown.err == ""  # a bar at a terminal alone
    lines = shown.out.splitlines()
    assert len(lines) == 2
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


def test_the_start_of_a_run_says_how_much_is_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "matrix_rate", lambda device, bfloat16: 2e11 if bfloat16 else 1e11)
    tracker = Tracker("test", 100)
    tracker.start(24, 2 * 10**15, torch.device("cpu"), True)
    tracker.start(2, 6 * 10**13, torch.device("cpu"), False)
    tracker.close()
    first, second = capsys.readouterr().out.splitlines()
    assert "24 epochs to train, 2 PFLOP in bfloat16: about 2.8 hours" in first
    assert "2 epochs to train, 0.06 PFLOP in float32: about 10 minutes" in second


@pytest.mark.parametrize("bfloat16", [False, True])
def test_rate_of_a_matrix_product_from_its_time(monkeypatch, bfloat16):
    clock = iter([0.0, 9.0, 10.0, 10.5])  # the first product does not count
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(estimate, "SIDE", 8)
    assert estimate.matrix_rate(torch.device("cpu"), bfloat16) == 2 * 8**3 / 0.5
