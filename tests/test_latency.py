"""Latency of two networks whose runs alternate, and the stage benchmark on two tiny ONNX files."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from src.core.errors import ParamsError
from src.deployment import latency
from stages import benchmark

ROOT = Path(__file__).parents[1]


def tiny_network(path: Path, seed: int) -> None:
    """Write an ONNX network of one matrix: images float32 [N, 3, 32, 32] to logits [N, 10]."""
    weights = np.random.default_rng(seed).normal(size=(3072, 10)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 32, 32])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(nodes, "tiny", [images], [logits], [numpy_helper.from_array(weights, "weights")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with the repository's pipeline, params with three runs, and two recipes' outputs."""
    (tmp_path / "models/onnx").mkdir(parents=True)
    for seed, recipe in enumerate(("dense", "mine")):
        tiny_network(tmp_path / f"models/onnx/{recipe}.onnx", seed)
        (tmp_path / f"models/onnx/{recipe}.json").write_text('{"edition": "sample"}')
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    set_runs(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_runs(folder: Path, runs: object) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["benchmark"]["runs"] = runs
    params["compress"]["recipes"] |= {"mine": {"from": "vgg16", "step": "keep"}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def test_calls_alternate_and_every_second_pair_is_in_reverse_order():
    calls = []
    times = latency.interleave(lambda: calls.append("n"), lambda: calls.append("d"), runs=6)
    pairs = ["".join(pair) for pair in zip(calls[::2], calls[1::2], strict=True)]
    assert set(pairs) == {"nd", "dn"}
    assert all(one != other for one, other in pairwise(pairs))
    assert len(pairs) == latency.WARM_UP + 6
    assert times.shape == (6, 2)
    assert (times >= 0).all()


def test_latency_and_ratio_against_values_worked_out_by_hand(monkeypatch):
    times = np.array([[1.0, 4.0], [2.0, 4.0], [3.0, 30.0], [4.0, 12.0], [5.0, 10.0]])
    monkeypatch.setattr(latency, "interleave", lambda first, second, runs: times)
    result = latency.paired_latency(None, None, batch_size=64, runs=5)
    assert result["network"] == {
        "median_ms": 3.0,
        "lower_quartile_ms": 2.0,
        "upper_quartile_ms": 4.0,
        "images_per_second": pytest.approx(64_000 / 3),
    }
    assert result["dense"]["median_ms"] == 10.0
    assert result["ratio"] == 3.0  # the middle of 4, 2, 10, 3, 2, and not 10 / 3


def test_images_are_the_same_at_every_call():
    batch = latency.noise_images(5)
    assert batch.shape == (5, 3, 32, 32)
    assert batch.dtype == np.float32
    assert batch.min() >= 0
    assert batch.max() <= 1
    assert np.array_equal(batch, latency.noise_images(5))


def test_name_of_the_processor(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some: CPU @ 3 GHz\nprocessor\t: 1\nmodel name\t: Other\n")
    assert latency.cpu_name(cpuinfo) == "Some: CPU @ 3 GHz"
    assert latency.cpu_name(tmp_path / "missing")


@pytest.mark.parametrize("recipe", ["mine", "dense"])
def test_stage_writes_both_batch_sizes_and_the_conditions(workspace, monkeypatch, recipe):
    monkeypatch.setattr(sys, "argv", ["benchmark", recipe])
    benchmark.main()
    written = json.loads((workspace / f"metrics/benchmark/{recipe}.json").read_text())
    assert [written[key] for key in ("recipe", "edition", "runs", "threads")] == [recipe, "sample", 3, 1]
    assert all(written[key] for key in ("cpu", "python", "numpy", "onnxruntime"))
    for size in (1, 64):
        batch = written[f"b{size}"]
        assert batch["ratio"] > 0
        for side in (batch["network"], batch["dense"]):
            assert 0 < side["lower_quartile_ms"] <= side["median_ms"] <= side["upper_quartile_ms"]
            assert side["images_per_second"] == pytest.approx(1000 * size / side["median_ms"], rel=1e-3)


@pytest.mark.parametrize("runs", [0, -1, 1.5, "many", True])
def test_stage_refuses_bad_runs(workspace, monkeypatch, runs):
    set_runs(workspace, runs)
    monkeypatch.setattr(sys, "argv", ["benchmark", "mine"])
    with pytest.raises(ParamsError, match=r"benchmark\.runs"):
        benchmark.main()
    assert not (workspace / "metrics/benchmark").exists()
