"""The benchmarks run and say what they measured; no time is asserted."""

import math

import pytest
import torch
from networks import plan, trained, vgg
from test_recipe import recipe

from benchmarks import training
from src.core.files import atomic
from src.network.record import Record, network_path, save_recorded
from src.network.vgg import VGG
from src.training.budget import StepCost

CPU = torch.device("cpu")
NARROW = vgg()


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(training, "MATRIX_SIDE", 64)


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
    assert "slim.safetensors: missing, left out" in capsys.readouterr().out


def test_sections_of_other_processors_stay():
    text = training.with_section("", "## A\n\none")
    text = training.with_section(text, "## B\n\n### Part\n\ntwo")
    text = training.with_section(text, "## A\n\nthree")
    assert text == f"{training.INTRODUCTION}\n\n## B\n\n### Part\n\ntwo\n\n## A\n\nthree\n"
