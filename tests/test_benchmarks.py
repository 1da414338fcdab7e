"""The benchmarks run and say what they measured; no time is asserted."""

import math
from itertools import pairwise

import pytest
import torch
from networks import plan, trained, vgg
from test_recipe import recipe

from benchmarks import measure, separation, training
from src.core.files import atomic
from src.network.record import Record, network_path, save_recorded
from src.network.vgg import VGG
from src.training.budget import StepCost

CPU = torch.device("cpu")
NARROW = vgg()


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(measure, "MATRIX_SIDE", 64)


def test_steps_of_a_network_and_their_share_of_the_matrix_rate():
    shape, settings = plan(8, "pool", 16), recipe(batch_size=10, ema_decay=0.9, optimizer="muon")
    step = training.training_step("small", shape, settings, False, CPU)
    assert (step["network"], step["precision"]) == ("small", "float32")
    assert step["images"] == pytest.approx(10 * step["steps"])
    flops = StepCost(VGG(shape), settings, 70).flops(32)
    assert step["rate"] == pytest.approx(flops * step["steps"])
    assert all(0 < step[part] < 1 for part in training.PARTS)
    assert all(math.isfinite(step[name]) and step[name] > 0 for name in ("matrix_rate", "share", "memory"))
    written = training.lines("fast", [step])
    assert written[-1].startswith("| small | ")
    assert len({line.count("|") for line in written[2:]}) == 1


def test_networks_whose_files_are_missing_are_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with atomic(network_path("low_rank")) as temporary:
        save_recorded(trained(plan(8, "pool")), Record(edition="sample"), temporary)
    plans = training.shapes(NARROW)
    assert list(plans) == ["dense", "low_rank"]
    assert (plans["dense"], plans["low_rank"]) == (NARROW, plan(8, "pool"))
    assert "distilled.safetensors: missing, left out" in capsys.readouterr().out


def test_separation_is_measured_beside_forward_passes_and_products(monkeypatch):
    for name, value in {"IMAGES": 20, "NEIGHBOUR_IMAGES": 30, "RUNS": 1, "DIMS": 64}.items():
        monkeypatch.setattr(separation, name, value)
    rows = separation.centers(VGG(NARROW).eval()) + separation.neighbours(CPU)
    assert rows[0].startswith("| CSI of all layers, 20 images")
    assert len(rows) == 5
    assert not any("nan" in row for row in rows)
    assert {row.count("|") for row in rows} == {3}


def test_sections_of_other_processors_stay():
    text = measure.with_section("", "## A\n\none", "# Page")
    text = measure.with_section(text, "## B\n\n### Part\n\ntwo", "# Page")
    text = measure.with_section(text, "## A\n\nthree", "# New")
    assert text == "# New\n\n## B\n\n### Part\n\ntwo\n\n## A\n\nthree\n"


def test_calls_alternate_and_every_second_pair_is_in_reverse_order():
    calls = []
    times = measure.interleave(lambda: calls.append("n"), lambda: calls.append("d"), runs=6, warm_up=3)
    pairs = ["".join(pair) for pair in zip(calls[::2], calls[1::2], strict=True)]
    assert set(pairs) == {"nd", "dn"}
    assert all(first != second for first, second in pairwise(pairs))
    assert len(pairs) == 3 + 6
    assert times.shape == (6, 2)
    assert (times >= 0).all()
