"""The commands: the README's results, the table of any revision, and what is on a picture."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import commands
import numpy as np
import psutil
import pytest
import yaml
from networks import INFO, constant_network
from PIL import Image

from checks import minutes, readme
from scripts import check_tree, predict, table, try_recipe
from src.core.errors import ParamsError, UserError
from src.core.files import read_csv, write_csv, write_json
from src.export.coded import encode
from src.results.table import CHANCE, legend, readable

ROOT = Path(__file__).parents[1]
CONDITIONS = {
    "blocks": 3,
    "calls": 4,
    "threads": 1,
    "cpu": "Some CPU",
    "instruction_sets": ["AVX2", "VNNI"],
    "python": "3",
    "numpy": "2",
    "onnxruntime": "1",
    "recipes": {name: {"b1": {"ratio_low": 15.5, "ratio_high": 17.25}} for name in ("flagship", "another")},
}


def row(recipe: str, scale: int = 1) -> dict:
    return {
        "recipe": recipe,
        "edition": "sample",
        "val_accuracy": 0.92,
        "test_accuracy": 0.9123,
        "parent": "trained",
        "reference": "dense",
        "difference_points": -0.5,
        "difference_low": -0.8,
        "difference_high": -0.2,
        "parameters": 15_253_578 // scale,
        "nonzero_parameters": 15_253_578 // scale,
        "macs": 313_500_000 // scale,
        "macs_ratio": float(scale),
        "bytes": 61_000_000 // scale,
        "bytes_ratio": float(scale),
        "bytes_ratio_half": scale / 2,
        "latency_ms_b1": 8.0 / scale,
        "latency_ms_b64": 400.0 / scale,
        "latency_b1_ratio": scale * 1.01,
    }


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with a comparison of two recipes and a README with empty markers."""
    monkeypatch.chdir(tmp_path)
    write_csv(Path("metrics/comparison.csv"), [row("dense"), row("flagship", 16)])
    Path("metrics/benchmark.json").write_text(json.dumps(CONDITIONS))
    write_json(Path("metrics/dataset.json"), INFO.model_dump())
    write_history({"steps": [], "note": ""})
    own = {"compress@flagship": 2.5, "export@flagship": 0.2, "test@flagship": 0.5, "compress@dense": 9, "benchmark": 7}
    spent = [{"stage": stage, "minutes": minutes, "machine": "Some machine"} for stage, minutes in own.items()]
    write_csv(Path("docs/minutes.csv"), spent)
    Path("README.md").write_text(f"# Before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    return tmp_path


def write_history(flagship: dict) -> None:
    dense = {"steps": ["kept as it is"], "note": ""}
    Path("metrics/recipes.json").write_text(json.dumps({"recipes": {"dense": dense, "flagship": flagship}}))


def run(monkeypatch, command, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    command.main()


def test_readme_is_stale_until_written_and_again_after_a_change(workspace, monkeypatch):
    with pytest.raises(UserError, match="make readme"):
        run(monkeypatch, readme, "--check")
    assert "old" in Path("README.md").read_text()
    run(monkeypatch, readme)
    run(monkeypatch, readme, "--check")
    write_csv(Path("metrics/comparison.csv"), [row("dense"), row("flagship", 17)])
    with pytest.raises(UserError, match="make readme"):
        run(monkeypatch, readme, "--check")


def test_readme_shows_numbers_conditions_and_steps_and_keeps_the_rest(workspace, monkeypatch):
    write_history({"steps": ["cut after pool4", "fine-tuned 3 epochs"], "note": "mind the gap"})
    run(monkeypatch, readme)
    text = Path("README.md").read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\nafter\n")
    assert "| flagship | 91.23 | -0.50 [-0.80, -0.20] | 16.00 | 16.00 | 16.16 |" in text
    assert "| recipe | test % ↑ |" in text
    data = "CIFAR-10, sample edition: 10 classes; 80 train, 20 validation, 20 test images of 32 x 32 pixels."
    assert data in text
    whole = Path("docs/results.md").read_text()
    cells = "91.23 | dense | -0.50 [-0.80, -0.20] | 953.3 k | 19.6 M | 16.00 | 3.8 MB | 16.00 | 8.00 | 0.50"
    # minutes: the sum of the three stages of the recipe
    assert f"| flagship | {cells} | 16.16 [15.50, 17.25] | 3.2 |\n" in whole
    assert "| dense | 91.23 |  |  | 15.3 M |" in whole
    assert "| 1.01 |  |\n" in whole  # of dense not all stages are known
    assert "on Some machine." in " ".join(whole.split())
    for each in (text, whole):
        assert all(len(line) <= 120 for line in each.splitlines() if not line.startswith("|"))
    assert "12 calls on 1 thread of Some CPU (AVX2 VNNI; ONNX Runtime 1, NumPy 2, Python 3)" in " ".join(whole.split())
    assert whole.count("Some CPU") == 1
    told = "- **flagship** (from trained): cut after pool4; fine-tuned 3 epochs; mind the gap."
    assert f"- **dense** (from trained): kept as it is.\n{told}\n" in whole


@pytest.mark.parametrize(("accuracy", "shown"), [(0.9123, True), (0.9, False)], ids=["this run", "another"])
def test_results_show_the_differences_over_seeds_of_this_run(workspace, monkeypatch, accuracy, shown):
    pair = {"recipe": "flagship", "reference": "dense", "points": -0.5, "low": -1.0, "high": 0.25}
    write_csv(readme.SEEDS, [{"seed": n, "recipe": "flagship", "test_accuracy": accuracy + n / 100} for n in (0, 1)])
    write_csv(readme.POOLED, [pair, pair | {"reference": "flagship", "recipe": "dense"}])
    run(monkeypatch, readme)
    text = " ".join(Path("docs/results.md").read_text().split())
    assert ("over 2 seeds of each recipe" in text) == shown
    assert ("): flagship -0.50 [-1.00, +0.25]. - **dense**" in text) == shown


def test_readme_shows_only_the_most_important_recipes(workspace, monkeypatch):
    write_csv(Path("metrics/comparison.csv"), [row("dense"), row("another"), row("flagship", 16)])
    history = {name: {"steps": [], "note": ""} for name in ("dense", "another", "flagship")}
    Path("metrics/recipes.json").write_text(json.dumps({"recipes": history}))
    run(monkeypatch, readme)
    assert "another" not in Path("README.md").read_text()
    assert "| another |" in Path("docs/results.md").read_text()


@pytest.mark.parametrize("text", ["", readme.BEGIN, f"{readme.END}\n{readme.BEGIN}", 2 * f"{readme.BEGIN}{readme.END}"])
def test_readme_without_its_markers_is_refused(workspace, monkeypatch, text):
    Path("README.md").write_text(text)
    with pytest.raises(UserError, match="results:begin"):
        run(monkeypatch, readme)
    assert Path("README.md").read_text() == text


def test_small_counts_are_shown_whole():
    shown = readable([row("dense") | {"settings_tried": 20}], ("settings_tried", "parameters"))
    assert shown == [{"tried": "20", "params": "15.3 M"}]


@pytest.mark.parametrize(
    ("more", "name"),
    [({}, "a_recipe_with_a_nam… "), ({"balanced_accuracy": 0.5, "claim": "not decided"}, "a_recipe_w… ")],
)
def test_table_is_aligned_and_narrow_whatever_the_names_and_columns(more, name):
    wide = {"difference_points": -10.55, "difference_low": -21.25, "difference_high": 10.75, "latency_ms_b1": 123.45}
    long = row("a_recipe_with_a_name_that_never_ends_and_goes_on", 1000) | wide | more
    lines = table.table([row("dense") | dict.fromkeys(more, math.nan), long], "Some data.").splitlines()
    assert lines[0].startswith("Some data. x: ")
    assert len({len(line) for line in lines[-3:]}) == 1
    assert all(len(line) <= 120 for line in lines)
    assert lines[-2].split()[:3] == ["dense", "92.00", "91.23"]
    assert ("balanced %" in lines[-3]) == bool(more)
    assert name in lines[-1]
    assert "-10.55 [-21.25, +10.75]" in lines[-1]


def test_table_says_what_the_margin_decides_and_leaves_out_columns_that_are_not_there():
    first, claimed = row("dense") | {"claim": math.nan}, row("int8") | {"claim": "not decided"}
    text = table.table([first, claimed], "")
    assert "compare.margin" in text
    assert "-0.50 [-0.80, -0.20]   dense   not decided" in text.splitlines()[-1]
    older = {name: value for name, value in claimed.items() if name not in ("claim", "reference", "difference_points")}
    text = table.table([older], "")
    assert "decided" not in text
    assert "margin" not in text


def test_legend_counts_the_intervals_and_how_many_are_expected_to_miss():
    rows = [row("dense"), *(row(f"recipe {number}") for number in range(30))]
    assert "Of 30 such intervals 1.5 are expected to miss" in legend(rows)
    assert "expected to miss" not in legend(rows[:1])


def test_the_deviation_between_seeds_in_the_legend_is_that_of_the_study():
    """Of the differences from tuned, each with two seeds: half of the mean squared distance is their variance."""
    found = {}
    for pair in read_csv(ROOT / "studies/results/seeds-pairs-48e308b.csv"):
        if pair["reference"] == "tuned":
            found.setdefault(pair["recipe"], []).append(pair["points"])
    deviation = math.sqrt(np.mean([(one - two) ** 2 / 2 for one, two in found.values()]))
    assert len(found) == 5
    assert f"standard deviation of {deviation:.2f} points" in CHANCE


def test_balanced_accuracy_is_shown_where_it_is_not_accuracy():
    rows = [row("dense") | {"balanced_accuracy": 0.91234}, row("int8") | {"balanced_accuracy": 0.9123}]
    assert "balanced" not in table.table(rows, "")
    rows[1]["balanced_accuracy"] = 0.8765
    assert [line.split()[3] for line in table.table(rows, "").splitlines()[-2:]] == ["91.23", "87.65"]


@pytest.fixture
def repository(workspace, monkeypatch):
    """The workspace as a DVC repository with one commit, and another value on disk since."""
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    commands.run(workspace, "git", "init", "-q")
    commands.run(workspace, "dvc", "init", "-q")
    commands.commit(workspace, "Results")
    commands.run(workspace, "git", "tag", "results")
    write_csv(Path("metrics/comparison.csv"), [row("dense"), row("other", 2)])
    return workspace


def test_table_of_the_workspace_and_of_a_revision(repository, monkeypatch, capsys):
    run(monkeypatch, table)
    assert "other" in capsys.readouterr().out
    run(monkeypatch, table, "--rev", "results")
    assert "flagship" in capsys.readouterr().out
    Path("metrics/dataset.json").unlink()  # as in older commits
    run(monkeypatch, table)
    assert capsys.readouterr().out.startswith("sample edition. x: ")
    with pytest.raises(UserError, match="nowhere"):
        run(monkeypatch, table, "--rev", "nowhere")
    Path("metrics/comparison.csv").unlink()
    with pytest.raises(UserError, match="the working tree"):
        run(monkeypatch, table)


def test_prediction_names_the_three_most_probable_classes(workspace, monkeypatch, capsys):
    logits = np.log(np.array([0.01, 0.01, 0.02, 0.5, 0.01, 0.3, 0.1, 0.03, 0.01, 0.01], dtype=np.float32))
    constant_network(predict.MODEL, logits)
    Image.new("RGB", (9, 9)).save("picture.png")
    run(monkeypatch, predict, "picture.png")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [["cat", "50.00%"], ["dog", "30.00%"], ["frog", "10.00%"]]
    assert " ms " in lines[3]


def test_prediction_takes_names_and_side_from_the_file(workspace, monkeypatch, capsys):
    constant_network(predict.MODEL, np.log(np.array([0.25, 0.75], np.float32)), side=20, names='["left", "right"]')
    Image.new("RGB", (9, 9)).save("picture.png")
    run(monkeypatch, predict, "picture.png")
    assert capsys.readouterr().out.split()[:4] == ["right", "75.00%", "left", "25.00%"]
    constant_network(predict.MODEL, np.zeros(3, np.float32), names='["left", "right"]')
    with pytest.raises(UserError, match=r"flagship\.onnx: .*metadata classes must be a list of 3 names") as refusal:
        run(monkeypatch, predict, "picture.png")
    assert "\n" not in str(refusal.value)


def test_prediction_from_a_coded_file_is_that_from_its_onnx_file(workspace, monkeypatch, capsys):
    Image.linear_gradient("L").save("picture.png")
    onnx_file, coded = (ROOT / predict.MODEL).read_bytes(), predict.MODEL.with_suffix(".coded")
    predict.MODEL.parent.mkdir()
    predict.MODEL.write_bytes(onnx_file)
    predict.MODEL.with_suffix(".backup").write_text("another file of that name")
    run(monkeypatch, predict, "picture.png")
    wanted = capsys.readouterr().out.splitlines()
    assert "released/flagship.onnx" in wanted[3]
    coded.write_bytes(encode(onnx_file))
    run(monkeypatch, predict, "picture.png")
    found = capsys.readouterr().out.splitlines()
    assert found[:3] == wanted[:3]
    assert "released/flagship.coded" in found[3]


def test_a_bad_coded_file_is_told_in_one_line(workspace, monkeypatch):
    content = encode((ROOT / predict.MODEL).read_bytes())
    Path("my.coded").write_bytes(content[:8] + b"\7" + content[9:])
    told = "version 7 of the format; this decoder reads version 1"
    with pytest.raises(UserError, match=f"^my.coded: not readable as ONNX: {told}$"):
        run(monkeypatch, predict, "picture.png", "--model", "my.coded")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_dvc_and_its_stage_end_when_their_command_is_asked_to(repository, number):
    stage = "import time; open('started', 'w').close(); time.sleep(600)"
    (repository / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"sleep": {"cmd": f'{sys.executable} -c "{stage}"'}}})
    )
    command = [sys.executable, "-c", "from scripts.try_recipe import run_dvc; run_dvc('repro')"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, encoding="utf-8") as process:
        while not (repository / "started").exists():
            assert process.poll() is None
            time.sleep(0.05)
        running = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.stderr.read().endswith("KeyboardInterrupt\n")
    assert running
    assert not any(each.is_running() for each in running)


def test_a_recipe_is_not_tried_without_the_trained_network(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(try_recipe, "pull", lambda: None)
    monkeypatch.setattr(try_recipe, "network_path", lambda name: Path("models/networks/nothing.safetensors"))
    with pytest.raises(UserError, match=r"nothing\.safetensors: cannot be pulled; make it with `dvc repro train`"):
        run(monkeypatch, try_recipe, "int8")


def test_minutes_are_those_of_the_newest_run_with_its_interrupted_parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = {"minutes": 99.0, "machine": "Old, 2 cores"}
    write_csv(minutes.MINUTES, [{"stage": stage, **old} for stage in ("train", "csi", "draw")])
    log = [("csi", 7.0, 1), ("draw", 3.0, 0), ("csi", 1.0, 0), ("csi", 5.5, 1)]
    write_csv(minutes.LOG, [dict(zip(("stage", "minutes", "done"), row, strict=True)) for row in log])
    monkeypatch.setattr(minutes, "cpu_name", lambda: "New")
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("sys.argv", ["minutes"])
    minutes.main()
    rows = minutes.known()
    assert rows["train"]["minutes"] == rows["draw"]["minutes"] == 99
    assert (rows["csi"]["minutes"], rows["csi"]["machine"]) == (6.5, "New, 4 cores")


def test_a_trial_of_a_recipe_says_its_minutes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no time" in try_recipe.expected(["slim"], ["dense", "slim"])
    stages = {"split": 1, "compress@slim": 20, "test@slim": 3, "test@truncated": 50, "compress@truncated": 2}
    rows = [{"stage": name, "minutes": float(spent), "machine": "M"} for name, spent in stages.items()]
    write_csv(minutes.MINUTES, rows)
    assert "9 stages, 26 minutes for 4 of them on M" in try_recipe.expected(["truncated", "slim"], ["dense", "slim"])


def test_an_unknown_recipe_cannot_be_tried(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="unknown recipe 'nothing'; there are: dense, half"):
        run(monkeypatch, try_recipe, "nothing")


@pytest.mark.parametrize("named", [["dense", "nothing"], "flagship", None])
@pytest.mark.parametrize(
    ("key", "allowed"),
    [("release", "in coded out of: int8, "), ("coded", r"\(at least one\) out of: dense, half")],
)
def test_a_recipe_to_code_or_release_that_does_not_exist_is_told(tmp_path, key, allowed, named):
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {key: named}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    with pytest.raises(ParamsError, match=rf"params.yaml: {key}: must be a list of recipes {allowed}"):
        check_tree.check(path)
    path.write_text(yaml.safe_dump(params | {"coded": ["dense"], "release": ["dense"]}))
    check_tree.check(path)
