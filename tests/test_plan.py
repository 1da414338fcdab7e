"""What `make plan` says would run, compared with what DVC runs then, in a toy pipeline."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_plots_template import ENVIRONMENT

from scripts import plan as plans
from src.compression.record import network_path
from src.compression.tree import ROOT as TRAINED
from src.compression.tree import read_tree
from src.core.files import read_csv
from src.results.comparison import COMPARISON

ROOT = Path(__file__).parents[1]
NETWORK = network_path(TRAINED).as_posix()
PIPELINE = f"""
stages:
  split: {{cmd: cp source data, deps: [source], outs: [data: {{push: false}}]}}
  train: {{cmd: cat data data > {NETWORK}, deps: [data], params: [epochs], outs: [{NETWORK}]}}
  compress: {{cmd: cat {NETWORK} data > small, deps: [data, {NETWORK}], outs: [small: {{push: false}}]}}
  compare: {{cmd: cp small table, deps: [small], outs: [table: {{cache: false}}]}}
"""


def run(folder, *command):
    command = [sys.executable, "-m", *command] if command[0] == "dvc" else command
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the network in a remote that Git tracks, and everything else in the cache alone."""
    folder = tmp_path_factory.mktemp("plan") / "project"
    (folder / NETWORK).parent.mkdir(parents=True)
    for name, text in {"source": "images", "params.yaml": "epochs: 1", "dvc.yaml": PIPELINE}.items():
        (folder / name).write_text(text)
    (folder / ".gitignore").write_text(f"data\nsmall\n{NETWORK}\n")
    for command in (
        ("git", "init", "-q"),
        ("dvc", "init", "-q"),
        ("dvc", "remote", "add", "-q", "-d", "released", "released"),
        ("dvc", "repro", "-q"),
        ("dvc", "push", "-q"),
        ("git", "add", "-A"),
        ("git", "commit", "-qm", "Results"),
    ):
        run(folder, *command)
    return folder


@pytest.fixture
def clone(project, tmp_path, monkeypatch):
    folder = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", project, folder)
    (folder / NETWORK).parent.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def planned_and_run(folder):
    """The plan; the stages that ran when `make repro` was done by hand."""
    planned = plans.to_run()
    if not (folder / NETWORK).exists():
        run(folder, "dvc", "pull", NETWORK)
    assert plans.to_run() == planned
    return planned, re.findall("Running stage '(.*)'", run(folder, "dvc", "repro"))


def test_a_fresh_clone_makes_what_is_missing(clone):
    planned, ran = planned_and_run(clone)
    assert planned == {"split": True, "train": False, "compress": True, "compare": False}
    assert ran == ["split", "compress"]
    assert plans.to_run() == {}


def test_after_a_part_of_the_pipeline_the_rest_is_left(clone):
    run(clone, "dvc", "repro", "split")
    assert planned_and_run(clone) == ({"compress": True, "compare": False}, ["compress"])


def test_a_network_that_cannot_be_pulled_is_trained(clone):
    shutil.rmtree("released")
    assert plans.to_run() == {"split": True, "train": True, "compress": True, "compare": False}


def test_other_data_and_other_settings_run_what_reads_them(clone):
    run(clone, "dvc", "pull", NETWORK)
    run(clone, "dvc", "repro")
    Path("params.yaml").write_text("epochs: 2")
    assert planned_and_run(clone) == ({"train": True, "compress": False, "compare": False}, ["train"])
    Path("source").write_text("other images")
    assert plans.to_run() == {"split": True, "train": False, "compress": False, "compare": False}
    run(clone, "dvc", "repro", "split")
    planned, ran = planned_and_run(clone)
    assert planned == {"train": True, "compress": True, "compare": False}
    assert ran == list(planned)


def test_what_the_cache_holds_does_not_run(clone):
    run(clone, "dvc", "pull", NETWORK)
    run(clone, "dvc", "repro")
    for name in ("data", "small", NETWORK):
        Path(name).unlink()
    assert planned_and_run(clone) == ({}, [])
    Path("small").write_text("edited by hand")
    assert planned_and_run(clone) == ({}, [])


def test_the_plan_adds_up_the_minutes_that_are_known():
    rows = {name: {"minutes": spent, "machine": "M"} for name, spent in {"train": 100.0, "csi": 2.5}.items()}
    assert plans.plan({"csi": True, "new": True, "train": False}, rows).splitlines() == [
        f"csi{'2.5':>37}",
        f"new{'?':>37}",
        f"train{'100.0':>35}  only if its input changes",
        "2 stages, 2 minutes for 1 of them on M (docs/minutes.csv)",
        "only if its input changes: 1 stage, 100 minutes for 1 of them on M (docs/minutes.csv)",
    ]
    assert plans.plan({"new": True}, rows).splitlines()[-1] == "1 stage; docs/minutes.csv has no time of them"
    assert plans.plan({}, rows).startswith("Nothing would run")


def test_the_training_of_all_recipes_is_added_up_once():
    nodes = {"dense": ("vgg16", "keep"), "a": ("vgg16", "distill"), "b": ("a", "fine_tune"), "c": ("b", "small")}
    recipes = {name: SimpleNamespace(parent=parent, step=step) for name, (parent, step) in nodes.items()}
    rows = [{"recipe": name, "pflop": pflop} for name, pflop in {"dense": 2.0, "a": 2.5, "b": 2.75, "c": 1.0}.items()]
    assert plans.pflop(recipes, rows) == 0.5 + 0.25 + 1.0
    assert plans.cost(recipes | {"new": recipes["a"]}, rows).endswith(
        "costs 1.75 PFLOP (metrics/comparison.csv; not in it yet: new)"
    )


def test_the_committed_recipes_cost_at_most_four_pflop(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert plans.pflop(read_tree(), read_csv(COMPARISON)) <= 4
