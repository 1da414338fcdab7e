"""The training benchmark runs and says what it measured; no time is asserted."""

import math
from itertools import pairwise

import torch
from test_recipe import recipe

from benchmarks import training as benchmark
from src.network.vgg import ModelSettings

CPU = torch.device("cpu")
NARROW = ModelSettings(head="compact", width=0.125)


def test_a_page_of_measurements(monkeypatch):
    monkeypatch.setattr(benchmark, "MATRIX_SIDE", 64)
    monkeypatch.setattr(benchmark, "PIPELINE_IMAGES", 60)
    step = benchmark.training_step(NARROW, recipe(whiten=True), 16, False, CPU)
    assert (step["size"], step["precision"]) == (16, "float32")
    numbers = [step[name] for name in ("steps", "images", "rate", "matrix_rate", "share", "memory")]
    assert all(math.isfinite(number) and number > 0 for number in numbers)
    assert math.isclose(step["images"], 10 * step["steps"])
    pipeline = benchmark.input_pipeline(20, CPU)
    assert all(0 < step[name] < 1 for name in ("augmentation", "optimizer"))
    page = benchmark.page("fast", CPU, [step], pipeline)
    assert "| 16 | float32 |" in page
    assert f"| image by image | {pipeline['original']:,.0f} |" in page


def test_sections_of_other_processors_stay():
    text = benchmark.with_section("", "## A\n\none")
    text = benchmark.with_section(text, "## B\n\n### Part\n\ntwo")
    text = benchmark.with_section(text, "## A\n\nthree")
    assert text.startswith("# How fast training is\n\n")
    assert text.endswith("one process with what it is compared to.\n\n## B\n\n### Part\n\ntwo\n\n## A\n\nthree\n")


def test_a_pass_of_the_input_pipeline_sees_every_image_once(monkeypatch):
    monkeypatch.setattr(benchmark, "PIPELINE_IMAGES", 50)
    images = torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1).expand(50, 3, 32, 32).contiguous()
    seen = torch.cat(list(benchmark.batches(benchmark.Crops(images, 0), 20)))
    assert seen.dtype == torch.float32
    assert (seen[:, 0, 0, 0] * 255).round().int().sort().values.tolist() == list(range(50))


def test_calls_alternate_and_every_second_pair_is_in_reverse_order():
    calls = []
    times = benchmark.interleave(lambda: calls.append("n"), lambda: calls.append("d"), runs=6, warm_up=3)
    pairs = ["".join(pair) for pair in zip(calls[::2], calls[1::2], strict=True)]
    assert set(pairs) == {"nd", "dn"}
    assert all(one != other for one, other in pairwise(pairs))
    assert len(pairs) == 3 + 6
    assert times.shape == (6, 2)
    assert (times >= 0).all()
