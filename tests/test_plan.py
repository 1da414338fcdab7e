"""What `make plan` says would run, compared with what DVC runs then, in a toy pipeline."""

import re
import shutil
from pathlib import Path

import pytest
from commands import ROOT, commit, run

from scripts import plan as plans
from scripts.pull import pull
from src.compression.tree import CompressSettings, budget_of, check, read_tree
from src.core.errors import UserError
from src.core.params import read_yaml
from src.core.recipes import ROOT as TRAINED
from src.network.record import network_path

NETWORK, SMALL = network_path(TRAINED).as_posix(), network_path("small").as_posix()
PIPELINE = f"""
stages:
  split: {{cmd: cp source data, deps: [source], outs: [data: {{push: false}}]}}
  train: {{cmd: cat data data > {NETWORK}, deps: [data], params: [epochs], outs: [{NETWORK}]}}
  compress: {{cmd: cat {NETWORK} data > {SMALL}, deps: [data, {NETWORK}], outs: [{SMALL}: {{push: false}}]}}
  compare: {{cmd: cp {SMALL} table, deps: [{SMALL}], outs: [table: {{cache: false}}]}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the network in a remote that Git tracks, and everything else in the cache alone."""
    folder = tmp_path_factory.mktemp("plan") / "project"
    (folder / NETWORK).parent.mkdir(parents=True)
    for name, text in {"source": "images", "params.yaml": "epochs: 1", "dvc.yaml": PIPELINE}.items():
        (folder / name).write_text(text)
    (folder / ".gitignore").write_text(f"data\n{NETWORK}\n{SMALL}\n")
    for command in (
        ("git", "init", "-q"),
        ("dvc", "init", "-q"),
        ("dvc", "remote", "add", "-q", "-d", "released", "released"),
        ("dvc", "repro", "-q"),
        ("dvc", "push", "-q"),
    ):
        run(folder, *command)
    commit(folder, "Results")
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
    pull()
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


def test_a_small_network_in_the_remote_is_pulled_too(clone, project):
    shutil.copytree(project / ".dvc/cache/files", "released/files", dirs_exist_ok=True)
    assert planned_and_run(clone) == ({"split": True, "train": False, "compress": False, "compare": False}, ["split"])


def test_a_damaged_network_is_told_in_one_line(clone):
    for path in Path("released").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_text("damaged")
    with pytest.raises(UserError, match=f"`dvc pull {NETWORK}` failed: ") as refusal:
        pull()
    assert "\n" not in str(refusal.value)


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
    for name in ("data", SMALL, NETWORK):
        Path(name).unlink()
    assert planned_and_run(clone) == ({}, [])
    Path(SMALL).write_text("edited by hand")
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


def test_the_longest_chain_counts_what_runs_and_is_known():
    needed = {"split": [], "train": ["split"], "csi": ["split"], "draw": ["train", "csi"], "new": ["draw"]}
    rows = {name: {"minutes": spent} for name, spent in {"split": 1.0, "train": 50.0, "csi": 9.0, "draw": 2.0}.items()}
    line = "At least {} minutes with JOBS or many machines: {}"
    assert plans.longest(needed, rows, needed).startswith(line.format(53, "split, train, draw"))
    assert plans.longest({"split", "csi", "draw"}, rows, needed) == line.format(12, "split, csi, draw")


def test_a_control_costs_what_the_path_of_its_parent_costs():
    keep = {"from": "trained", "step": "keep"}
    pruned = {"from": "trained", "step": "prune_channels", "budget": 3}
    taught = {"from": "pruned", "step": "distill", "budget": 5}
    again = {"from": "small", "step": "fine_tune"}
    nodes = {"dense": keep, "pruned": pruned, "taught": taught, "small": {"from": "taught", "step": "small"}}
    nodes |= {"again": again, "tuned": {"from": "again", "step": "train_on"}}
    params = read_yaml(ROOT / "params.yaml")
    section = CompressSettings(**params["compress"] | {"recipes": nodes, "budget": 2})
    recipes = check(section, params["train"]["defaults"])
    costs = {name: budget_of(recipe, recipes) for name, recipe in recipes.items()}
    assert costs == {"dense": 0, "pruned": 3, "taught": 5, "small": 8, "again": 2, "tuned": 10}


def test_the_committed_recipes_cost_at_most_a_night(monkeypatch):
    """Seven PFLOP: what two cores of the committed run compute in a night."""
    monkeypatch.chdir(ROOT)
    line = plans.cost(read_tree())
    assert float(re.search(r"([0-9.]+) PFLOP", line)[1]) <= 7
    epoch = 6 * 313_207_808 * 45_000 / 1e15
    assert epoch < plans.epoch_pflop() < 1.2 * epoch  # the optimizer beside the network
