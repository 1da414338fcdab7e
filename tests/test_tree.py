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
from networks import colors, plan, trained

from scripts import check_tree
from src.compression.positions import POSITIONS
from src.compression.record import load_candidate, network_path
from src.compression.technique import technique, technique_names
from src.compression.tree import CompressSettings, check, path_to, read_tree
from src.core.errors import ParamsError, UserError, exit_cleanly
from src.core.files import write_csv
from src.data.prepared import PREPARED, Statistics, save_split, save_statistics
from src.network.vgg import load, load_with_record, save
from stages import compress

ROOT = Path(__file__).parent.parent
COMMITTED = yaml.safe_load((ROOT / "params.yaml").read_text())["compress"]
TWO_EPOCHS = COMMITTED | {"fine_tune": COMMITTED["fine_tune"] | {"epochs": 2}}
TINY = plan(16, "pool", 32, 32, "pool", head=(24,))


def section(**recipes):
    """The committed section with fine-tunings of two epochs and other recipes beside dense."""
    return CompressSettings(**TWO_EPOCHS | {"recipes": {"dense": {"from": "vgg16", "step": "keep"}, **recipes}})


def node(parent, step, **settings):
    return {"from": parent, "step": step, **settings}


def test_the_committed_tree_is_sound_and_every_technique_has_its_settings():
    recipes = check(CompressSettings(**COMMITTED))
    assert {"dense", "half", "tuned", "folded", "truncated", "channels", "int8", "flagship"} <= set(recipes)
    assert set(COMMITTED["steps"]) == set(technique_names())
    path = [recipe.name for recipe in path_to(recipes["flagship"], recipes)]
    assert path == ["truncated", "slim", "distilled", "flagship"]


def test_the_readmes_override_of_a_recipe_reaches_its_setting(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    apply_overrides(tmp_path / "params.yaml", ["compress.recipes.slim.ratio=0.5"])  # as dvc exp run -S does
    assert read_tree(tmp_path / "params.yaml")["slim"].settings.ratio == 0.5


def test_no_technique_has_a_default_in_the_code():
    for name in technique_names():
        assert all(field.is_required() for field in technique(name).Settings.model_fields.values()), name


def test_a_recipe_changes_what_it_says_and_takes_the_rest():
    recipes = check(
        section(
            tuned=node("vgg16", "fine_tune", fine_tune={"epochs": 3}),
            mine=node("vgg16", "prune_channels", ratio=0.25, fine_tune={"epochs": 3}),
        )
    )
    mine = recipes["mine"].settings
    assert (mine.ratio, mine.fine_tune.epochs) == (0.25, 3)
    assert mine.round_to == COMMITTED["steps"]["prune_channels"]["round_to"]
    assert mine.fine_tune.lr_peak == COMMITTED["fine_tune"]["lr_peak"]


MISTAKES = [
    ({"r": node("nobody", "keep")}, r"recipes\.r\.from: unknown parent 'nobody'; there are: vgg16, dense, r"),
    ({"a": node("b", "keep"), "b": node("a", "keep")}, r"recipes\.\w\.from: the recipes form a circle: "),
    ({"r": node("r", "keep")}, r"recipes\.r\.from: the recipes form a circle: r -> r"),
    (
        {"r": node("vgg16", "melt")},
        r"recipes\.r\.step: unknown technique 'melt'; there are: distill, factorize, fine_tune, fold, half",
    ),
    ({"r": {"step": "keep"}}, r"recipes\.r\.from: missing"),
    ({"r": node(["a"], "keep")}, r"recipes\.r\.from: must be the name of a recipe \(found \['a'\]\)"),
    ({"-x": node("vgg16", "keep")}, r"recipes\.-x: a name holds letters"),
    (
        {"a": node("b", "keep"), "b": node("a", "keep"), "c": node("a", "keep")},
        r"recipes\.\w\.from: the recipes form a circle: (a -> b -> a|b -> a -> b)$",
    ),
    ({"half": node("vgg16", "keep")}, r"recipes\.half: must be \{from: vgg16, step: half\}"),
    ({"dense": node("vgg16", "half")}, r"recipes\.dense: must be \{from: vgg16, step: keep\}"),
    ({"tuned": node("vgg16", "keep")}, r"recipes\.tuned: must be \{from: vgg16, step: fine_tune\}"),
    (
        {"tuned": node("vgg16", "fine_tune", fine_tune={"epochs": 2}), "r": node("tuned", "prune_channels")},
        r"recipes\.r\.from: nothing may follow tuned",
    ),
    ({"r": {"from": "vgg16"}}, r"recipes\.r\.step: missing"),
    ({"r": "keep"}, r"recipes\.r: must be \{from: PARENT, step: TECHNIQUE, \.\.\.settings\} \(found 'keep'\)"),
    ({"vgg16": node("dense", "keep")}, r"recipes\.vgg16: a name holds .* and is not vgg16"),
    ({"a b": node("dense", "keep")}, r"recipes\.a b: a name holds letters"),
    (
        {"i": node("vgg16", "quantize"), "r": node("i", "fold")},
        r"recipes\.r\.from: i ends in quantize, which nothing may follow",
    ),
    ({"h": node("vgg16", "half"), "r": node("h", "keep")}, r"recipes\.r\.from: h ends in half, which nothing may"),
    (
        {"f": node("vgg16", "fold"), "r": node("f", "prune_channels", importance="bn_scale")},
        r"recipes\.r: prune_channels by bn_scale cannot follow fold",
    ),
    (
        {"t": node("vgg16", "truncate"), "r": node("t", "truncate")},
        r"recipes\.r: truncate cannot follow truncate: the separation of the layers is measured on the root",
    ),
    ({"r": node("vgg16", "truncate", epsilon=2)}, r"recipes\.r\.epsilon: .*less than 1 \(found 2\)"),
    ({"r": node("vgg16", "truncate", eps=0.1)}, r"recipes\.r\.eps: unknown key; allowed here: by, epsilon, head_c"),
    ({"r": node("vgg16", "fold", fine_tune={"epochs": 1})}, r"recipes\.r\.fine_tune: unknown key"),
    (
        {"r": node("vgg16", "prune_channels", fine_tune={"epochs": 0})},
        r"recipes\.r\.fine_tune\.epochs: .*greater than or equal to 1 \(found 0\)",
    ),
    (
        {"r": node("vgg16", "prune_channels", fine_tune={"accumulate": 3})},
        r"recipes\.r\.fine_tune: accumulate must divide batch_size, 250, .*\(found 3\)",
    ),
    ({"r": node("vgg16", "quantize", method="guess")}, r"recipes\.r\.method: .*'minmax', 'entropy' or 'percentile'"),
    (
        {"r": node("vgg16", "prune_channels")},
        r"recipes\.tuned: must fine-tune for as many epochs as the longest path of the tree, 2 of r \(found 0\)",
    ),
    (
        {
            "tuned": node("vgg16", "fine_tune", fine_tune={"epochs": 3}),
            "a": node("vgg16", "prune_channels"),
            "b": node("a", "prune_channels"),
        },
        r"recipes\.tuned: must fine-tune .* 4 of b \(found 3\): \{from: vgg16, step: fine_tune, fine_tune: \{epochs: 4",
    ),
]


@pytest.mark.parametrize(("recipes", "complaint"), MISTAKES)
def test_mistakes_in_the_tree_are_named_in_one_line(recipes, complaint):
    with pytest.raises(ParamsError, match=rf"^params\.yaml: compress\.{complaint}") as caught:
        check(section(**recipes))
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
        ("fine_tune", COMMITTED["fine_tune"] | {"momentum": 2.0}, r"compress\.fine_tune\.momentum: .*found 2\.0"),
        ("recipes", {"r": node("vgg16", "keep")}, r"compress\.recipes: dense is missing"),
    ):
        with pytest.raises(ParamsError, match=rf"^params\.yaml: {complaint}"):
            check(CompressSettings(**COMMITTED | {part: values}))


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with all that the stage reads: params, a small network, its CSI and a few images."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    for name in ("src/techniques", "src/compression", "stages"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).symlink_to(ROOT / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"device": "cpu"}
    params["compress"]["fine_tune"] |= {"epochs": 2, "batch_size": 20}
    params["compress"]["recipes"] = {
        "dense": node("vgg16", "keep"),
        "tuned": node("vgg16", "fine_tune"),
        "truncated": node("vgg16", "truncate"),
        "slim": node("truncated", "prune_channels", ratio=0.4),
        "flagship": node("slim", "quantize"),
        "channels": node("vgg16", "prune_channels"),
    }
    write(params)
    PREPARED.mkdir(parents=True)
    for name, count in (("train", 60), ("validation", 30), ("test", 40)):
        save_split(PREPARED, name, colors(count))
    save_statistics(PREPARED, Statistics("sample", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)))
    network_path("vgg16").parent.mkdir(parents=True)
    record = {"edition": "sample", "image_passes": 900, "pflop": 0.5}
    save(trained(TINY), network_path("vgg16"), record, half=True)
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
    candidate, record = load_candidate("flagship")
    assert record.edition == "sample"
    assert record.recipe == "flagship"
    assert [step.split()[0] for step in record.steps] == ["cut", "removed", "int8"]
    assert record.image_passes == 900 + 2 * 60
    assert record.pflop >= 0.5
    assert record.export.precision == "int8"
    validation = colors(30)
    right = candidate.network(validation.images / 255).argmax(1) == validation.labels
    assert record.val_accuracy == pytest.approx(right.float().mean().item())
    assert {tensor.dtype for tensor in candidate.network.state_dict().values()} <= {torch.float32, torch.int64}
    assert [run_stage(name, monkeypatch).read_bytes() for name in ("truncated", "slim", "flagship")] == first


def test_interrupted_fine_tuning_goes_on_and_gives_the_same_bytes(workspace, monkeypatch, capsys):
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
    assert "going on after step 4" in capsys.readouterr().out
    assert not list(Path("scratch/compress").rglob("*.pt"))


@pytest.mark.parametrize(
    ("recipe", "change", "complaint"),
    [
        ("none", {}, "error: params.yaml: compress.recipes.none: missing; there are: "),
        ("dense", {"last": node("vgg16", "melt")}, "error: params.yaml: compress.recipes.last.step: unknown technique"),
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
    assert [path.name for path in network_path("vgg16").parent.iterdir()] == ["vgg16.safetensors"]


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
    network, record = load_with_record(network_path("vgg16"))
    save(network, network_path("bad"), {"edition": 3} | json.loads('{"pflop": "much"}'))
    with pytest.raises(UserError, match=r"bad\.safetensors: its record is damaged"):
        load_candidate("bad")
    assert record["image_passes"] == 900
    assert load(network_path("bad")).plan == TINY
