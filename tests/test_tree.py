"""The tree of recipes: what is refused and how it is said, in the tree itself and by the stage and the script."""

import contextlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from dvc.utils.hydra import apply_overrides
from networks import INFO, colors, plan, trained

from scripts import check_tree
from src.compression.positions import POSITIONS
from src.compression.technique import technique, technique_names
from src.compression.tree import CompressSettings, check, path_to, read_tree
from src.core.errors import ParamsError, UserError, exit_cleanly
from src.core.files import write_csv
from src.core.params import validate
from src.data.prepared import PREPARED, save_info, save_split
from src.network.record import Record, load_recorded, network_path, save_recorded
from src.network.vgg import load, load_with_record, save
from stages import compress

ROOT = Path(__file__).parent.parent
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
DEFAULTS, COMMITTED = PARAMS["train"]["defaults"], PARAMS["compress"]
TINY = plan(16, "pool", 32, 32, "pool", head=(24,))


def section(**recipes):
    """The committed section with other recipes beside dense."""
    return CompressSettings(**COMMITTED | {"recipes": {"dense": {"from": "trained", "step": "keep"}, **recipes}})


def node(parent, step, **settings):
    return {"from": parent, "step": step, **settings}


def test_the_committed_tree_is_sound_and_every_technique_has_its_settings():
    recipes = check(CompressSettings(**COMMITTED), DEFAULTS)
    assert {"dense", "half", "tuned", "folded", "truncated", "channels", "int8", "flagship"} <= set(recipes)
    assert set(COMMITTED["steps"]) == set(technique_names())
    path = [recipe.name for recipe in path_to(recipes["flagship"], recipes)]
    assert path == ["shallow", "slim", "retrained", "flagship"]


def test_the_readmes_override_of_a_recipe_reaches_its_setting(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    apply_overrides(tmp_path / "params.yaml", ["compress.recipes.slim.ratio=0.5"])  # as dvc exp run -S does
    assert read_tree(tmp_path / "params.yaml")["slim"].settings.ratio == 0.5


def test_no_technique_has_a_default_in_the_code():
    for name in technique_names():
        assert all(field.is_required() for field in technique(name).Settings.model_fields.values()), name


def test_a_recipe_changes_what_it_says_and_takes_the_rest():
    mine = node("trained", "prune_channels", ratio=0.25, budget=3, train={"recipe": "refine", "momentum": 0.5})
    settings = check(section(mine=mine), DEFAULTS)["mine"].settings
    assert (settings.ratio, settings.budget, settings.train.momentum) == (0.25, 3, 0.5)
    assert settings.round_to == COMMITTED["steps"]["prune_channels"]["round_to"]
    assert settings.train.lr_peak == COMMITTED["train"]["refine"]["lr_peak"]
    assert settings.train.label_smoothing == DEFAULTS["label_smoothing"]
    named = check(section(r=node("trained", "fine_tune", train={"recipe": "repair"})), DEFAULTS)["r"].settings.train
    assert (named.lr_start, named.lr_peak) == (0.0005, 0.005)  # not those of the step fine_tune
    sgd = node("f", "fine_tune", train={"recipe": "long", "optimizer": "sgd"})  # which scales no filter at the start
    check(section(f=node("trained", "fold"), s=node("f", "share_weights"), i=node("s", "quantize"), r=sgd), DEFAULTS)
    plain = check(section(plain=node("trained", "prune_channels")), DEFAULTS)["plain"].settings
    assert (plain.budget, plain.train.lr_peak) == (COMMITTED["budget"], COMMITTED["train"]["repair"]["lr_peak"])


MISTAKES = [
    ({"r": node("nobody", "keep")}, r"recipes\.r\.from: unknown parent 'nobody'; there are: trained, dense, r"),
    ({"a": node("b", "keep"), "b": node("a", "keep")}, r"recipes\.\w\.from: the recipes form a cycle: "),
    ({"r": node("r", "keep")}, r"recipes\.r\.from: the recipes form a cycle: r -> r"),
    (
        {"r": node("trained", "melt")},
        r"recipes\.r\.step: unknown technique 'melt'; there are: distill, factorize, fine_tune, fold, half",
    ),
    ({"r": {"step": "keep"}}, r"recipes\.r\.from: missing"),
    ({"r": node(["a"], "keep")}, r"recipes\.r\.from: must be the name of a recipe \(found \['a'\]\)"),
    ({"-x": node("trained", "keep")}, r"recipes\.-x: a name holds letters"),
    (
        {"a": node("b", "keep"), "b": node("a", "keep"), "c": node("a", "keep")},
        r"recipes\.\w\.from: the recipes form a cycle: (a -> b -> a|b -> a -> b)$",
    ),
    ({"half": node("trained", "keep")}, r"recipes\.half: must have the step half: .*found keep"),
    ({"dense": node("trained", "half")}, r"recipes\.dense: must have the step keep"),
    ({"c": node("trained", "keep"), "dense": node("c", "keep")}, r"recipes\.dense: must be from trained: .*found c"),
    ({"tuned": node("trained", "fine_tune")}, r"recipes\.tuned: must have the step train_on"),
    ({"r": {"from": "trained"}}, r"recipes\.r\.step: missing"),
    ({"r": "keep"}, r"recipes\.r: must be \{from: PARENT, step: TECHNIQUE, \.\.\.settings\} \(found 'keep'\)"),
    ({"trained": node("dense", "keep")}, r"recipes\.trained: a name holds .* and is not trained"),
    ({"a b": node("dense", "keep")}, r"recipes\.a b: a name holds letters"),
    (
        {"i": node("trained", "quantize"), "r": node("i", "fold")},
        r"recipes\.r\.from: i ends in quantize, which nothing may follow",
    ),
    ({"h": node("trained", "half"), "r": node("h", "keep")}, r"recipes\.r\.from: h ends in half, which nothing may"),
    (
        {"t": node("trained", "truncate"), "r": node("t", "truncate")},
        r"recipes\.r: truncate cannot follow truncate: the separation of the layers is measured on the root",
    ),
    (
        {"s": node("trained", "prune_weights"), "r": node("s", "fine_tune")},
        r"recipes\.r: its training would undo prune_weights: every weight changes",
    ),
    (
        {"f": node("trained", "fold"), "r": node("f", "fine_tune", train={"recipe": "long"})},
        r"recipes\.r: train\.normed_filters scales the weights at the start; fold has taken the BatchNorm",
    ),
    (
        {"r": node("trained", "quantize_weights", train={"recipe": "long"})},
        r"recipes\.r: train\.normed_filters scales the weights at the start, and not the steps of their grid",
    ),
    *(
        (
            {"s": node("trained", "share_weights"), "r": node("s", step)},
            r"recipes\.r: its folding would undo share_weights",
        )
        for step in ("fold", "quantize")
    ),
    ({"r": node("trained", "truncate", epsilon=2)}, r"recipes\.r\.epsilon: .*less than 1 \(found 2\)"),
    ({"r": node("trained", "truncate", eps=0.1)}, r"recipes\.r\.eps: unknown key; allowed here: by, epsilon, head_c"),
    ({"r": node("trained", "fold", budget=1)}, r"recipes\.r\.budget: unknown key"),
    ({"r": node("trained", "prune_channels", budget=0)}, r"recipes\.r\.budget: .*greater than 0 \(found 0\)"),
    (
        {"r": node("trained", "prune_channels", train={"accumulate": 3})},
        r"recipes\.r\.train: accumulate must divide batch_size, 250, .*\(found 3\)",
    ),
    (
        {"r": node("trained", "prune_channels", train={"recipe": "mend"})},
        r"recipes\.r\.train\.recipe: unknown training 'mend'; there are: repair, refine, long",
    ),
    ({"r": node("trained", "prune_channels", train="repair")}, r"recipes\.r\.train: must be \{recipe: NAME"),
    ({"r": node("trained", "prune_channels", train={"epochs": 3})}, r"recipes\.r\.train\.epochs: unknown key"),
    (
        {"p": node("trained", "prune_channels"), "r": node("p", "small", widths=[8, 0])},
        r"recipes\.r\.widths\.1: .*greater than 0 \(found 0\)",
    ),
    ({"r": node("trained", "quantize", method="guess")}, r"recipes\.r\.method: .*'minmax', 'entropy' or 'percentile'"),
]


@pytest.mark.parametrize(("recipes", "complaint"), MISTAKES)
def test_mistakes_in_the_tree_are_named_in_one_line(recipes, complaint):
    with pytest.raises(ParamsError, match=rf"^params\.yaml: compress\.{complaint}") as caught:
        check(section(**recipes), DEFAULTS)
    assert "\n" not in str(caught.value)


def test_mistakes_outside_the_recipes_are_named_where_they_stand():
    for part, values, complaint in (
        ("steps", COMMITTED["steps"] | {"melt": {}}, r"compress\.steps\.melt: unknown technique; there are: "),
        (
            "steps",
            COMMITTED["steps"] | {"truncate": {"by": "csi", "head_c": 1.0}},
            r"compress\.steps\.truncate\.epsilon: missing",
        ),
        (
            "steps",
            COMMITTED["steps"] | {"truncate": {"by": "csi", "head_c": 1.0, "epsilon": 7}},
            r"compress\.steps\.truncate\.epsilon",
        ),
        ("steps", COMMITTED["steps"] | {"truncate": 3}, r"compress\.steps\.truncate: .*dictionary.*found 3"),
        ("steps", {"keep": {}}, r"compress\.steps\.\w+: missing; the settings of each technique stand there once"),
        (
            "train",
            COMMITTED["train"] | {"refine": {"momentum": 2.0}},
            r"compress\.train\.refine\.momentum: .*found 2\.0",
        ),
        (
            "train",
            COMMITTED["train"] | {"long": {"phases": [{"side": 1.5, "epochs": 1}]}},
            r"compress\.train\.long\.phases\.0\.side: .*found 1\.5",
        ),
        (
            "train",
            COMMITTED["train"] | {"repair": {"accumulate": 7}},
            r"compress\.train\.repair: accumulate must divide",
        ),
        ("steps", {"fine_tune": {}}, r"compress\.steps\.fine_tune\.train\.recipe: missing"),
        (
            "steps",
            {"prune_channels": COMMITTED["steps"]["prune_channels"] | {"importance": "csi"}},
            r"compress\.steps\.prune_channels: ranking must be uniform",
        ),
        ("recipes", {"r": node("trained", "keep")}, r"compress\.recipes: dense is missing"),
    ):
        with pytest.raises(ParamsError, match=rf"^params\.yaml: {complaint}"):
            check(validate(CompressSettings, COMMITTED | {part: values}, "compress"), DEFAULTS)


@pytest.mark.parametrize(
    ("train", "complaint"),
    [
        (None, r"train: must be a mapping of keys to values \(found None\)"),
        ({"defaults": DEFAULTS}, r"train\.recipes: missing"),
        (
            {"defaults": DEFAULTS, "recipes": {}, "stop_att": 0.9},
            r"train\.stop_att: unknown key; .* recipes, stop_at, ",
        ),
        ({"defaults": DEFAULTS, "recipes": {"short": {}}}, r"train\.recipes\.short\.epochs: missing"),
        ({"defaults": {}, "recipes": {"short": {"epochs": 1}}}, r"train\.defaults\.batch_size: missing"),
    ],
)
def test_mistakes_in_the_trainings_of_the_root_are_named_where_they_stand(train, complaint, tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"train": train}))
    with pytest.raises(ParamsError, match=rf"^params\.yaml: {complaint}"):
        read_tree(tmp_path / "params.yaml")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with all that the stage reads: params, a small network, its CSI and a few images."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    for name in ("src/techniques", "src/compression", "stages"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).symlink_to(ROOT / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"device": "cpu"}
    for training in params["compress"]["train"].values():
        training["batch_size"] = 20
    params["compress"]["recipes"] = {
        "dense": node("trained", "keep"),
        "tuned": node("slim", "train_on"),
        "truncated": node("trained", "truncate"),
        "slim": node("truncated", "prune_channels", ratio=0.4),
        "flagship": node("slim", "quantize"),
        "channels": node("trained", "prune_channels"),
    }
    write(params)
    PREPARED.mkdir(parents=True)
    for name, count in (("train", 60), ("validation", 30), ("test", 40)):
        save_split(PREPARED, name, colors(count))
    save_info(PREPARED, INFO)
    network_path("trained").parent.mkdir(parents=True)
    record = Record(edition="sample", image_passes=900, pflop=0.5)
    save_recorded(trained(TINY), record, network_path("trained"), half=True)
    ends = zip(TINY.features, TINY.module_ends(), strict=True)
    scores = [(block.name, min(end - 1, 9) / 10) for block, end in ends]
    write_csv(POSITIONS, [{"block": block, "csi": score, "probe": score} for block, score in scores])
    return params


def write(params):
    Path("params.yaml").write_text(yaml.safe_dump(params))


def run_stage(recipe, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compress", recipe])
    exit_cleanly(compress.main)
    return network_path(recipe)


def test_stage_writes_a_network_and_its_record_and_the_same_bytes_again(workspace, monkeypatch):
    paths = [run_stage(name, monkeypatch) for name in ("truncated", "slim", "flagship")]
    first = [path.read_bytes() for path in paths]
    network, record = load_recorded(network_path("flagship"))
    assert record.edition == "sample"
    assert record.recipe == "flagship"
    assert [step.split()[0] for step in record.steps] == ["cut", "removed", "int8"]
    assert record.image_passes >= 900 + 2 * 60  # the network is smaller: two epochs of the root buy as many or more
    assert record.pflop == pytest.approx(0.5 + record.pflop_after_root)
    assert record.export.precision == "int8"
    validation = colors(30)
    right = network(validation.images / 255).argmax(1) == validation.labels
    assert record.val_accuracy == pytest.approx(right.float().mean().item())
    assert {tensor.dtype for tensor in network.state_dict().values()} <= {torch.float32, torch.int64}
    assert [run_stage(name, monkeypatch).read_bytes() for name in ("truncated", "slim", "flagship")] == first


def test_interrupted_fine_tuning_resumes_and_gives_the_same_bytes(workspace, monkeypatch, capsys):
    whole = run_stage("channels", monkeypatch).read_bytes()
    network_path("channels").unlink()
    steps = iter([False, False, False, True])
    with monkeypatch.context() as patch:
        patch.setattr(compress, "interruption", lambda: contextlib.nullcontext(lambda: next(steps)))
        with pytest.raises(SystemExit) as stop:
            run_stage("channels", patch)
    assert stop.value.code == 130
    assert not network_path("channels").exists()
    assert list(Path("scratch/compress").rglob("*.pt"))
    assert run_stage("channels", monkeypatch).read_bytes() == whole
    assert "resuming after step 4" in capsys.readouterr().out
    assert not list(Path("scratch/compress").rglob("*.pt"))


@pytest.mark.parametrize(
    ("recipe", "change", "complaint"),
    [
        ("none", {}, "error: params.yaml: compress.recipes.none: missing; there are: "),
        (
            "dense",
            {"last": node("trained", "melt")},
            "error: params.yaml: compress.recipes.last.step: unknown technique",
        ),
    ],
)
def test_stage_checks_the_whole_tree_first_and_writes_nothing(
    recipe, change, complaint, workspace, monkeypatch, capsys
):
    workspace["compress"]["recipes"] |= change
    write(workspace)
    with pytest.raises(SystemExit) as stop:
        run_stage(recipe, monkeypatch)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(complaint)
    assert [path.name for path in network_path("trained").parent.iterdir()] == ["trained.safetensors"]


def test_script_checks_the_tree_with_and_without_overrides(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    for arguments in ([], ["demo.overrides"], ["quick.overrides"]):
        monkeypatch.setattr(sys, "argv", ["check_tree", *arguments])
        check_tree.main()
    overrides = tmp_path / "bad.overrides"
    overrides.write_text("# a comment\ncompress.recipes.channels.from=nobody\n")
    monkeypatch.setattr(sys, "argv", ["check_tree", str(overrides)])
    with pytest.raises(ParamsError, match=r"compress\.recipes\.channels\.from: unknown parent 'nobody'"):
        check_tree.main()
    overrides.write_text("no override\n")
    with pytest.raises(UserError, match=r"bad\.overrides: "):
        check_tree.main()


def test_a_damaged_record_is_told_in_one_line(workspace):
    network, record = load_with_record(network_path("trained"))
    save(network, network_path("bad"), {"edition": 3} | json.loads('{"pflop": "much"}'))
    with pytest.raises(UserError, match=r"bad\.safetensors: its record is damaged"):
        load_recorded(network_path("bad"))
    assert record["image_passes"] == 900
    assert load(network_path("bad")).plan == TINY
