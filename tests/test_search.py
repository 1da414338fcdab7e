"""The search for shapes: what is proposed, what is trained, and what a process that is killed loses."""

import contextlib
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from commands import ENVIRONMENT
from networks import INFO, colors, vgg

from scripts.search import __main__ as search
from scripts.search import shapes
from src.compression.tree import CompressSettings, check
from src.core.errors import UserError
from src.core.files import read_csv, write_csv
from src.data.prepared import PREPARED, Split, save_info, save_split
from src.results.history import RECIPES
from src.techniques.small import plan_with
from src.training.loop import LOWER

trials = pytest.importorskip("scripts.search.trials", reason="Optuna is not installed (requirements-search.txt)")
optuna = trials.optuna

ROOT = Path(__file__).parents[1]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
LIMIT = 400_000
OPTIONS = ("--trials=6", "--budget=2")
VGG11 = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool", 512, 512)
SPACE = shapes.Space(vgg(depth=11, side=16), LIMIT, 8)
# Runs the command, and kills it after the second epoch of its fourth training
KILLED = f"""
import os, signal, sys, torch
torch.set_num_threads(1)
from scripts.search import __main__ as search, trials
class Told(trials.Told):
    trainings = 0
    def epoch(self, row):
        super().epoch(row)
        Told.trainings += len(self.rows) == 2
        if Told.trainings == 4:
            os.kill(os.getpid(), signal.SIGKILL)
trials.STARTUP, trials.Told, trials.optuna.pruners.MedianPruner = 2, Told, lambda **_: trials.optuna.pruners.NopPruner()
sys.argv[1:] = {[str(LIMIT), *OPTIONS]}
search.main()
"""


pytestmark = pytest.mark.filterwarnings("ignore:PartialFixedSampler is experimental")


def by_hand(widths):
    """The MACs of a VGG11 for images of 16 x 16 pixels, cut after as many layers as there are ``widths``."""
    left, side, before, total = list(widths), 16, 3, 0
    for place, block in enumerate(VGG11):
        if not left:
            break
        if block == "pool":
            side = math.ceil(side / 2)
            continue
        total += left[0] * before * (9 * side**2 if place < VGG11.index("pool", 12) else 1)
        before = left.pop(0)
    return total + 10 * before


def prepare(folder):
    """Fill ``folder`` with what the search reads: params and a few tiny images, none of them for test."""
    (folder / PREPARED).mkdir(parents=True)
    for name in ("scripts", "src", "stages", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    params = json.loads(json.dumps(PARAMS)) | {"device": "cpu", "threads": 1}
    params["model"] = {"depth": 11, "head": "compact", "width": 0.125}
    params["compress"]["train"]["long"] |= {"batch_size": 30, "optimizer": "sgd", "mixed_precision": False}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for name, count in (("train", 60), ("validation", 50)):
        split = colors(count)
        save_split(folder / PREPARED, name, Split(split.images[:, :, ::2, ::2].contiguous(), split.labels))
    save_info(folder / PREPARED, INFO.model_copy(update={"side": 16}))
    return folder


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(prepare(tmp_path / "workspace"))
    monkeypatch.setattr(trials, "STARTUP", 2)


def run(monkeypatch, *options, limit=LIMIT):
    """Run the command here; return its table."""
    monkeypatch.setattr(sys, "argv", ["search", str(limit), *options])
    search.main()
    (table,) = Path("scratch/search").glob("*/trials.csv")
    return table


def widest_by_hand(logarithms, limit):
    """Widths at the largest scale that fits, by trying all."""
    vgg11 = [block for block in VGG11 if block != "pool"]
    for scale in reversed(shapes.SCALES):
        exact = [own * 2 ** (x + scale / 64) / 8 for own, x in zip(vgg11, logarithms, strict=False)]
        widths = [8 * max(1, round(width)) for width in exact]
        if by_hand(widths) <= limit:
            return tuple(widths)
    raise AssertionError("nothing fits")


def test_a_shape_is_the_widest_that_fits():
    assert SPACE.macs([8, 24, 16, 32, 40]) == by_hand([8, 24, 16, 32, 40])
    assert SPACE.macs([8, 24, 16, 32, 40, 8, 64, 8, 16, 24]) == by_hand([8, 24, 16, 32, 40, 8, 64, 8, 16, 24])
    assert SPACE.layers == (5, 10)
    draw = torch.Generator().manual_seed(0)
    for layers in (5, 8, 10):
        logarithms = (2 * torch.rand(layers, generator=draw) - 1).tolist()
        fixed = {"layers": layers, **dict(zip(SPACE.vgg, logarithms, strict=False))}
        assert SPACE.suggested(optuna.trial.FixedTrial(fixed)) == widest_by_hand(logarithms, LIMIT)


def test_the_parameters_of_a_shape_give_it_back():
    widths = (8, 16, 16, 24, 64, 96, 24)
    parameters = SPACE.parameters(widths)
    assert parameters.pop("layers") == 7
    assert [*parameters] == ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1"]
    assert all(-1 <= value <= 1 for value in parameters.values())
    assert shapes.Space(SPACE.root, by_hand(widths), 8).widest([*parameters.values()]) == widths


def test_only_networks_that_fit_are_proposed_and_too_few_macs_are_told():
    narrowest = {layers: by_hand([8] * layers) for layers in range(5, 11)}
    assert shapes.Space(SPACE.root, narrowest[7], 8).layers == (5, 7)
    assert shapes.Space(SPACE.root, narrowest[8] - 1, 8).layers == (5, 7)
    with pytest.raises(UserError, match=rf"^MACS: must be at least {narrowest[5]:,}, .*found {narrowest[5] - 1:,}\)"):
        _ = shapes.Space(SPACE.root, narrowest[5] - 1, 8).layers


def test_shapes_to_begin_with_are_those_of_the_tree_and_of_the_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [*shapes.known_shapes(SPACE)] == ["uniform"]
    names = [*SPACE.vgg]

    def recipe(*widths, names=names):
        layers = dict(zip(names, widths, strict=False))
        hidden = {name: layers.pop(name) for name in ("hidden1", "hidden2") if name in layers}
        return {"widths": {"convolutions": layers, "hidden": hidden}}

    recipes = {
        "dense": recipe(64, 128, 256, 256, 512, 512, 512, 512, 512, 512),
        "cut": recipe(64, 128, 256, 256, 512, 512),
        "too_short": recipe(64, 128, 256),
        "slim": recipe(16, 32, 32, 128, 64, 64),
        "slim_int8": recipe(16, 32, 32, 128, 64, 64),
        "thin": recipe(16, 16, 64, names=["conv1_1.in", "conv1_1", "conv2_1.in"]),
    }
    RECIPES.parent.mkdir()
    RECIPES.write_text(json.dumps({"recipes": recipes}))
    rows = [{"layer": None, "method": "none", "level": 0.0, "accuracy": 0.8}]
    for name in names[:8]:
        accuracies = {0.25: 0.8, 0.5: 0.72, 0.875: 0.1} if name == "conv3_1" else {0.25: 0.6, 0.5: 0.5, 0.875: 0.1}
        rows += [{"layer": name, "method": "taylor", "level": at, "accuracy": of} for at, of in accuracies.items()]
    write_csv(shapes.SENSITIVITY, rows)
    known = shapes.known_shapes(SPACE)
    assert [*known] == ["uniform", "cut", "slim", "sensitivity"]
    assert set(known["uniform"].values()) == {10, 0.0}
    assert known["cut"] == {"layers": 6, **dict.fromkeys(names[:6], 0.0)}
    assert known["slim"] == {"layers": 6, **dict(zip(names, (0, 0, -1, 1, -1, -1), strict=False))}
    narrow = known["sensitivity"].pop("conv3_1")  # half of it is borne; of the others a tenth
    assert known["sensitivity"].pop("layers") == 8
    (others,) = set(known["sensitivity"].values())
    assert 2 ** (narrow - others) == pytest.approx(0.5 / 0.9, abs=0.01)
    write_csv(shapes.SENSITIVITY, [row | {"layer": f"other_{row['layer']}"} for row in rows])
    assert [*shapes.known_shapes(SPACE)] == ["uniform", "cut", "slim"]


def test_killed_and_resumed_gives_the_same_trials(workspace, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda **_: optuna.pruners.NopPruner())
    whole = run(monkeypatch, *OPTIONS)
    monkeypatch.chdir(prepare(tmp_path / "killed"))
    done = subprocess.run([sys.executable, "-c", KILLED], env=ENVIRONMENT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not list(Path("scratch").rglob("trials.csv"))
    capsys.readouterr()
    resumed = run(monkeypatch, *OPTIONS)
    shown = capsys.readouterr().out
    assert ["tpe, trial 2," in shown, "resuming after step 2" in shown, "tpe, trial 3," in shown] == [False, True, True]
    assert resumed.read_bytes() == whole.read_bytes()
    assert resumed.with_suffix(".png").read_bytes() == whole.with_suffix(".png").read_bytes()
    assert [row["trial"] for row in read_csv(resumed)] == [*range(6)]


@pytest.fixture
def trained(workspace, monkeypatch):
    """The plans that were trained; nothing is, and a network is the better the wider its last layer."""
    plans = []

    def train(plan, recipe, images, validation, info, seed, device, hooks):
        plans.append(plan)
        for epoch in range(1, recipe.epochs + 1):
            hooks.reporter.epoch({"val/accuracy": plan.widths[-1] / 1000, "pflop": epoch})

    monkeypatch.setattr(trials, "train", train)
    return plans


def test_search_with_its_controls(trained, monkeypatch, capsys):
    for _ in range(2):  # nothing is left to do the second time
        run(monkeypatch, "--trials=8", "--budget=2")
        run(monkeypatch, "--trials=7", "--budget=2", "--sampler=random")
        table = run(monkeypatch, "--budget=2", "--long=4")
    macs = [by_hand(plan.widths) for plan in trained]
    assert len(macs) == 8 + 7 + 6
    assert all(0.5 * LIMIT < cost <= LIMIT for cost in macs)
    rows = read_csv(table)
    ends = {name: [row["trial"] for row in rows if row["study"] == name] for name in ("tpe", "random", "long-4")}
    assert ends == {"tpe": [*range(8)], "random": [*range(7)], "long-4": [*range(6)]}
    for row, cost in zip(rows, [by_hand(map(int, row["widths"].split("-"))) for row in rows], strict=True):
        assert row["macs"] == cost
        assert row["val_accuracy"] == float(row["widths"].split("-")[-1]) / 1000
        assert row["state"] == ("complete" if row["epochs"] > 1 else "pruned")
    tried = {f"{row['study']}-{row['trial']}": row["widths"] for row in rows}
    assert all(tried[row["origin"]] == row["widths"] for row in rows if row["study"] == "long-4")
    whole = [row for row in rows if row["study"] != "long-4" and row["state"] == "complete"]
    shown = capsys.readouterr().out.splitlines()
    assert "long-4: Kendall's tau with the short training 1.00" in "\n".join(shown)
    recipe = yaml.safe_load(next(line for line in shown if "searched:" in line))
    section = PARAMS["compress"] | {"recipes": PARAMS["compress"]["recipes"] | recipe}
    settings = check(CompressSettings(**section), PARAMS["train"]["defaults"])["searched"].settings
    best = max(row["val_accuracy"] for row in whole)
    assert settings.widths[-1] / 1000 == best
    assert plan_with(settings.widths, SPACE.root) in trained


def test_a_trial_of_another_process_is_left_to_it(trained, monkeypatch):
    folder = run(monkeypatch, "--trials=1").parent
    with trials.FileLock(folder / "tpe-1.lock"):
        table = run(monkeypatch, "--trials=3")
        assert [row["trial"] for row in read_csv(table)] == [0, 2]
    assert [row["trial"] for row in read_csv(run(monkeypatch, "--trials=3"))] == [0, 1, 2]
    assert len(trained) == 3


def test_a_loss_that_is_not_finite_ends_the_trial_and_other_mistakes_end_the_search(trained, monkeypatch):
    def fail(problem):
        def train(*_):
            raise UserError(problem)

        monkeypatch.setattr(trials, "train", train)

    fail(f"the loss is not finite; {LOWER}")
    (row,) = read_csv(run(monkeypatch, "--trials=1"))
    assert row["state"] == "pruned"
    assert math.isnan(row["val_accuracy"])
    fail("out of memory")
    with pytest.raises(UserError, match="out of memory"):
        run(monkeypatch, "--trials=2")


def test_the_pruner_is_asked_before_the_last_epoch_only(monkeypatch):
    study = optuna.create_study(direction="maximize")
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda _: True)
    for epochs, pruned in ((1, False), (2, True)):
        told = trials.Told(study.ask(), epochs, None)
        with pytest.raises(optuna.TrialPruned) if pruned else contextlib.nullcontext():
            told.epoch({"val/accuracy": 0.5})
        assert told.trial.storage.get_trial(told.trial._trial_id).intermediate_values == {1: 0.5}


def test_shapes_for_the_long_training_are_spread_from_worst_to_best():
    study = optuna.create_study(study_name="random", direction="maximize")
    for index, value in enumerate((0.5, 0.1, 0.9, 0.3, 0.7)):
        state, own = trials.PRUNED if value == 0.9 else trials.COMPLETE, {"user_attrs": {"index": index}}
        kinds = {"layers": optuna.distributions.IntDistribution(0, 9)}
        study.add_trial(
            optuna.create_trial(state=state, value=value, params={"layers": index}, distributions=kinds, **own)
        )
    spread = trials.spread([study], 3)
    assert [*spread.items()] == [(f"random-{index}", {"layers": index}) for index in (1, 0, 4)]
    with pytest.raises(UserError, match=r"LONG: needs 5 shapes .* \(found 4\)"):
        trials.spread([study], 5)


def test_kendalls_tau_by_hand():
    """Of the 15 pairs of six shapes two are in another order: (13 - 2) / 15."""
    short = [
        {"study": "tpe", "trial": i, "origin": "tpe", "state": "complete", "val_accuracy": i / 10} for i in range(6)
    ]
    long = [0.7, 0.6, 0.8, 0.9, 0.95, 0.94]
    rows = [
        row | {"study": "long-2", "origin": f"tpe-{row['trial']}", "val_accuracy": long[row["trial"]]} for row in short
    ]
    shown = [*search.lines([row | {"widths": "8-16"} for row in short + rows], {})]
    assert shown[0] == "tpe: 0.5000 on validation (trial 5, tpe)"
    assert shown[1].startswith("long-2: Kendall's tau with the short training 0.73 (p = ")
    assert shown[-1] == "    searched: {from: PARENT, step: small, widths: [8, 16]}"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["many"], r"MACS: must be a positive whole number \(found 'many'\)"),
        (["1.5"], r"MACS: must be a positive whole number \(found '1\.5'\)"),
        (["1e6", "--trials=0"], r"TRIALS: must be a positive whole number \(found '0'\)"),
        (["1e6", "--budget=nan"], r"BUDGET: must be a positive number \(found 'nan'\)"),
        (["1e6", "--long=-1"], r"LONG: must be a positive number \(found '-1'\)"),
        (["1e6", "--sampler=best"], r"SAMPLER: must be tpe or random \(found 'best'\)"),
    ],
)
def test_mistakes_of_the_command_line(monkeypatch, options, complaint):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["search", *options])
    with pytest.raises(UserError, match=f"^{complaint}$"):
        search.main()


def test_without_optuna_a_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "scripts.search.trials")
    monkeypatch.delattr("scripts.search.trials")
    monkeypatch.setattr(sys, "argv", ["search", "1e6"])
    with pytest.raises(UserError, match=r"not installed: .*pip install -r requirements-search.txt$"):
        search.main()
    assert "\noptuna==" in (ROOT / "requirements-search.txt").read_text()
