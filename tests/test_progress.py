"""Progress: items come through as they are, a bar only at a terminal, and a line at the end."""

import io
import re
import sys

import numpy as np
import torch

from src.core.progress import progress
from src.export.latency import round_robin
from src.network.inference import predict


class Terminal(io.StringIO):
    """A standard error that says that it is a terminal."""

    def isatty(self):
        return True


def test_without_a_terminal_there_is_one_line_at_the_end_and_no_bar(capsys):
    shown = progress(iter("abc"), 3, "alphabet", "letters")
    assert next(shown) == "a"
    assert capsys.readouterr() == ("", "")
    assert [*shown] == ["b", "c"]
    out, err = capsys.readouterr()
    assert re.fullmatch(r"alphabet: 3 letters in \d+\.\d s\n", out)
    assert err == ""


def test_a_terminal_has_a_bar_with_the_time_left_which_goes_away(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert [*progress(range(3), 3, "numbers")] == [0, 1, 2]
    shown = sys.stderr.getvalue()
    assert re.search(r"numbers:\s+0%.*0/3 \[00:00<", shown)
    assert shown.endswith("\r")
    assert capsys.readouterr().out.startswith("numbers: 3 batches in ")


def test_without_a_description_nothing_is_shown(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert [*progress(range(3), 3, None)] == [0, 1, 2]
    assert (sys.stderr.getvalue(), capsys.readouterr().out) == ("", "")


def test_what_is_computed_is_the_same_with_and_without_progress(capsys):
    images = torch.randint(0, 256, (25, 3, 4, 4), dtype=torch.uint8)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 10))
    silent, shown = predict(model, images, 10), predict(model, images, 10, description="evaluate")
    assert torch.equal(silent, shown)
    assert capsys.readouterr().out.startswith("evaluate: 3 batches in ")


def test_the_benchmark_shows_nothing_while_it_measures(monkeypatch):
    """The bar is written before and after the calls of a round, and never between them."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    written = []
    times = round_robin({"one": lambda: written.append(len(sys.stderr.getvalue()))}, 2, 3, "benchmark")
    assert np.shape(times["one"]) == (2, 3)
    assert [len(set(written[:4])), len(set(written[4:]))] == [1, 1]
