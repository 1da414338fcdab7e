"""Latency of networks that take turns, and the stage benchmark on two tiny ONNX files. No test depends on speed."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from networks import constant_network

from src.core import cpu
from src.core.errors import ParamsError, UserError
from src.export import latency
from stages import benchmark

ROOT = Path(__file__).parents[1]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with the repository's pipeline, params with few calls, and two recipes' outputs."""
    for recipe in ("dense", "mine"):
        constant_network(tmp_path / f"models/onnx/{recipe}.onnx", np.zeros(10, np.float32))
        set_edition(tmp_path, recipe, "sample")
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    set_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_edition(folder: Path, recipe: str, edition: str) -> None:
    (folder / f"models/onnx/{recipe}.json").write_text(json.dumps({"edition": edition}))


def set_params(folder: Path, recipes: tuple[str, ...] = ("mine", "dense"), **changes: object) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["benchmark"] = {"blocks": 2, "calls": 3, "batch_calls": 1} | changes
    params["compress"]["recipes"] = {recipe: {"from": "trained", "step": "keep"} for recipe in recipes}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


class Machine:
    """A clock that runs only while one of the networks runs; each call takes the next of its durations, in ms."""

    def __init__(self, **durations: list[float]):
        self.now, self.called = 0, []
        self.networks = {name: self.network(name, iter(values)) for name, values in durations.items()}

    def network(self, name, durations):
        def run(*_):
            self.called.append(name)
            self.now += round(next(durations) * 1e6)

        return run


@pytest.fixture
def machine(monkeypatch):
    """A `Machine` whose clock is the one that latency.py reads."""

    def made(**durations):
        result = Machine(**durations)
        monkeypatch.setattr("src.export.latency.time.perf_counter_ns", lambda: result.now)
        return result

    return made


def test_networks_take_turns_and_the_first_call_of_each_block_does_not_count(machine):
    own = machine(a=[99, 1, 2, 98, 3, 4.5], b=[97, 10, 20, 96, 30, 40])
    times = latency.round_robin(own.networks, blocks=2, calls=2)
    assert own.called == [*"aaabbbaaabbb"]
    assert list(times) == ["a", "b"]
    assert times["a"].tolist() == [[1, 2], [3, 4.5]]
    assert times["b"].tolist() == [[10, 20], [30, 40]]
    assert times["a"].dtype == np.float64


def test_cold_calls_follow_those_of_the_other_networks(machine):
    own = machine(a=[1, 2, 3], b=[10, 20, 30])
    times = latency.round_robin(own.networks, blocks=3, calls=1, warm=False)
    assert own.called == [*"ababab"]
    assert times["b"].tolist() == [[10], [20], [30]]


def test_no_progress_is_shown_where_there_is_no_terminal(machine, capfd):
    latency.round_robin(machine(a=[1, 1]).networks, blocks=1, calls=1)
    assert capfd.readouterr() == ("", "")


class Session:
    """Stands for a session of ONNX Runtime: notes the images of each call, and takes a network's time."""

    def __init__(self, network):
        self.network, self.images = network, []

    def get_inputs(self):
        return [SimpleNamespace(shape=["N", 3, 20, 20])]

    def run(self, outputs, feed):
        self.images.append(feed["images"])
        self.network()


def test_latency_and_ratio_against_values_worked_out_by_hand(machine):
    own = machine(
        small=[50, 1, 2, 9, 50, 2, 2, 2, 50, 5, 4, 3],  # medians of the blocks: 2, 2, 4
        dense=[50, 8, 7, 9, 50, 30, 20, 10, 50, 12, 12, 60],  # 8, 20, 12
    )
    sessions = {name: Session(network) for name, network in own.networks.items()}
    found = latency.latencies(sessions, batch_size=64, blocks=3, calls=3)
    assert list(found) == ["small", "dense"]
    assert found["small"] == {
        "median_ms": 2,
        "lower_quartile_ms": 2,
        "upper_quartile_ms": 4,
        "images_per_second": 32_000,
        "ratio": 4,  # the middle of 8 / 2, 20 / 2 and 12 / 4, and not 12 / 2
        "ratio_low": 3,  # of three rounds drawn again, two or three are the slowest in 7 of 27 cases
        "ratio_high": 10,
    }
    assert (found["dense"]["median_ms"], found["dense"]["ratio"]) == (12, 1)
    for fake in sessions.values():
        assert all(np.array_equal(images, latency.noise_images(64, 20)) for images in fake.images)


def test_images_are_the_same_at_every_call():
    batch = latency.noise_images(5, 20)
    assert batch.shape == (5, 3, 20, 20)
    assert batch.dtype == np.float32
    assert batch.min() >= 0
    assert batch.max() <= 1
    assert np.array_equal(batch, latency.noise_images(5, 20))


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "INFO", tmp_path / "cpuinfo")
    return tmp_path / "cpuinfo"


def test_name_of_the_processor(cpuinfo):
    assert latency.cpu_name()
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some: CPU @ 3 GHz\nprocessor\t: 1\nmodel name\t: Other\n")
    assert latency.cpu_name() == "Some: CPU @ 3 GHz"


FLAGS = [
    ("fpu amx_tile avx_vnni avx2 avx512f", ["AVX2", "AVX512", "VNNI", "AMX"]),
    ("amx_int8 avx512_vnni avx512f", ["AVX512", "VNNI", "AMX"]),
    ("avx avx512_bf16 avx512vbmi amx_bf16", []),
    ("avx2", ["AVX2"]),
]


@pytest.mark.parametrize(("flags", "expected"), FLAGS)
def test_instruction_sets_of_the_first_processor(cpuinfo, flags, expected):
    cpuinfo.write_text(f"processor\t: 0\nvmx flags\t: avx2 avx512f\nflags\t\t: {flags}\nflags\t\t: avx2 amx_int8\n")
    assert latency.instruction_sets() == expected


def test_instruction_sets_that_are_not_known(cpuinfo):
    assert latency.instruction_sets() == []
    cpuinfo.write_text("processor\t: 0\nFeatures\t: asimd\n")
    assert latency.instruction_sets() == []


def test_stage_writes_each_recipe_with_all_kinds_of_calls_and_the_conditions(workspace):
    benchmark.main()
    written = json.loads((workspace / "metrics/benchmark.json").read_text())
    assert list(written) == ["edition", "blocks", "calls", "batch_calls", *latency.conditions(), "recipes"]
    assert [written[key] for key in ("edition", "blocks", "calls", "batch_calls")] == ["sample", 2, 3, 1]
    assert {key: written[key] for key in latency.conditions()} == latency.conditions()
    assert list(written["recipes"]) == ["mine", "dense"]
    for found in written["recipes"].values():
        for name, size in (("b1", 1), ("b1_cold", 1), ("b64", 64)):
            batch = found[name]
            assert 0 < batch["ratio_low"] <= batch["ratio"] <= batch["ratio_high"]
            assert 0 < batch["lower_quartile_ms"] <= batch["median_ms"] <= batch["upper_quartile_ms"]
            assert batch["images_per_second"] == pytest.approx(1000 * size / batch["median_ms"], rel=1e-3)
    assert [written["recipes"]["dense"][name]["ratio"] for name in ("b1", "b1_cold", "b64")] == [1, 1, 1]


def test_stage_times_each_kind_of_calls_with_its_own_number_of_calls(workspace, monkeypatch):
    asked = []

    def fake(sessions, *numbers):
        asked.append(numbers)
        return {recipe: {"ratio": float(numbers[0])} for recipe in sessions}

    monkeypatch.setattr(latency, "latencies", fake)
    benchmark.main()
    assert asked == [(1, 2, 3, True), (1, 6, 1, False), (64, 2, 1, True)]
    written = json.loads((workspace / "metrics/benchmark.json").read_text())
    assert written["recipes"]["mine"] == {"b1": {"ratio": 1}, "b1_cold": {"ratio": 1}, "b64": {"ratio": 64}}


@pytest.mark.parametrize("key", ["blocks", "calls", "batch_calls"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True, 100_001])
def test_stage_refuses_bad_numbers(workspace, key, value):
    set_params(workspace, **{key: value})
    with pytest.raises(ParamsError, match=rf"params\.yaml: benchmark\.{key}: "):
        benchmark.main()
    assert not (workspace / "metrics").exists()


def test_stage_refuses_a_tree_without_dense(workspace):
    set_params(workspace, recipes=("mine",))
    with pytest.raises(ParamsError, match=r"params\.yaml: compress\.recipes: dense is missing"):
        benchmark.main()


def test_stage_refuses_several_editions(workspace):
    set_edition(workspace, "mine", "official")
    with pytest.raises(UserError, match=r"^models/onnx: editions .*\(mine official, dense sample\).*dvc repro`$"):
        benchmark.main()


def test_stage_names_a_file_that_is_missing(workspace):
    (workspace / "models/onnx/mine.onnx").unlink()
    with pytest.raises(UserError, match=r"models/onnx/mine\.onnx: "):
        benchmark.main()


def test_stages_without_networks_of_pytorch_do_not_import_it():
    stages = "stages.benchmark, stages.compare, stages.download, stages.test"
    check = f"import sys, {stages}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
