"""Checkpoints: two kept, damage passed over."""

import errno
import importlib.metadata
from pathlib import Path

import pytest
import torch

from src.core.errors import UserError
from src.training.checkpoints import Checkpoints, fingerprint, run_key

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]


def test_two_are_kept_and_the_newest_is_loaded(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.load(CPU) is None
    for steps in (5, 10, 100):
        checkpoints.save(steps, {"steps": steps, "x": torch.arange(steps)})
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["00000010.pt", "00000100.pt"]
    assert checkpoints.load(CPU)["steps"] == 100
    checkpoints.clear()
    assert checkpoints.load(CPU) is None


def test_a_damaged_one_falls_back_to_the_older(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"steps": 1})
    checkpoints.save(2, {"steps": 2})
    newest = tmp_path / "00000002.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    assert checkpoints.load(CPU)["steps"] == 1
    assert "00000002.pt: damaged" in capsys.readouterr().out


def test_a_full_disk_is_told_in_one_line_and_leaves_the_older_one(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"steps": 1})

    def full(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"00000002\.pt: cannot be written: No space left"):
        checkpoints.save(2, {"steps": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["00000001.pt"]


def test_fingerprint_follows_texts_and_contents(tmp_path):
    file = tmp_path / "data.csv"
    file.write_text("a")
    first = fingerprint(["lr 1"], [file])
    assert first == fingerprint(["lr 1"], [file])
    assert first != fingerprint(["lr 2"], [file])
    file.write_text("b")
    assert first != fingerprint(["lr 1"], [file])


def test_fingerprint_of_code_follows_what_it_does(tmp_path):
    file = tmp_path / "code.py"

    def of(text):
        file.write_text(text)
        return fingerprint([], [tmp_path])

    first = of("def half(x):\n    return x / 2\n")
    assert first == of('"""A page."""\n\n\ndef half(x):\n    """Half of x."""\n    return x / 2  # exact\n')
    assert first != of("def half(x):\n    return x / 2.0\n")
    assert first != of("def third(x):\n    return x / 2\n")


def test_a_run_is_not_resumed_with_another_library_or_other_settings(monkeypatch):
    monkeypatch.chdir(ROOT)

    def key(settings="{}", **versions):
        known = importlib.metadata.version
        with monkeypatch.context() as patch:
            patch.setattr(importlib.metadata, "version", lambda name: versions.get(name) or known(name))
            return run_key("compress", settings, CPU, False, "slim")

    others = [key(**{name: "0.1"}) for name in ("torch", "numpy", "scikit-learn", "tensorly", "torch-pruning")]
    assert len({key(), key('{"seed": 1}'), *others}) == 7
    assert key() == key()


def test_a_machine_that_only_trains_needs_no_library_of_a_technique(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert run_key("train", "{}", CPU, False)
