"""The benchmark of separation runs and says what it measured; no time is asserted."""

import math

import pytest
import torch

from benchmarks import separation as benchmark
from benchmarks.training import noise
from src.network.vgg import VGG, ModelSettings, vgg16_plan


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VGG(vgg16_plan(ModelSettings(head="compact", width=0.125))).eval()


def test_a_page_of_measurements(model, monkeypatch):
    monkeypatch.setattr(benchmark, "DIMS", 64)
    monkeypatch.setattr("benchmarks.training.MATRIX_SIDE", 64)
    figures = benchmark.measured(model, 20, 30, 1)
    assert all(math.isfinite(figures[name]) for name in figures)
    assert all(value > 0 for name, value in figures.items() if name != "memory")
    page = benchmark.page(figures, torch.device("cpu"), 20, 30)
    assert "| CSI of all layers, 20 images: against the two forward passes that it needs |" in page


def test_both_ways_see_the_same_layers(model):
    split = noise(20)
    assert list(benchmark.separate(model, split)) == list(benchmark.original_way(model, split))
