"""The studies on small networks: items are computed once, levels mean what they say."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from networks import CLASSES, INFO, candidate, colors, plan, trained
from sklearn.neighbors import NearestCentroid
from test_curves import RUN, write_curves

from src.compression.context import Context
from src.core.errors import ParamsError, UserError
from src.core.files import atomic, read_csv
from src.core.params import read_yaml
from src.data.prepared import PREPARED, save_info
from src.network.cost import macs
from src.network.record import Record, network_path, save_recorded
from src.results.curves import FOLDER
from studies import branches, budgets, curves, items, lengths, original, seeds, sensitivity
from studies.pictures import accuracy_against_budget, heat_map, separation_of_branches

TOP = Path(__file__).parents[1]
TWO_BLOCKS = plan(32, "pool", 32, "pool", head=(16,))
NETWORK = plan(16, "pool", 16, "pool", head=(8,))


def write(path, text="x"):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a study, three modules of src, and data."""
    monkeypatch.chdir(tmp_path)
    for path in ("studies/s.py", "src/core/a.py", "src/techniques/b.py", "src/pictures/c.py", "data/x.npz"):
        write(path)
    return tmp_path


@pytest.mark.parametrize(
    ("edited", "again"),
    [
        ("studies/s.py", True),
        ("src/core/a.py", True),
        ("src/techniques/b.py", True),
        ("data/x.npz", True),
        ("src/pictures/c.py", False),
        ("studies/other.py", False),
    ],
)
def test_an_item_is_computed_once_and_again_after_an_edit_of_what_it_depends_on(project, edited, again):
    calls = []

    def study(setting=3):
        folder = items.results_folder("s", [Path("data/x.npz")], setting)
        return items.computed(folder, {"a": lambda: calls.append("a") or [{"x": 1}, {"x": 2}]})

    assert study() == study() == [{"x": 1}, {"x": 2}]
    assert len(calls) == 1
    write(edited, "y")
    study()
    assert len(calls) == 1 + again
    study(setting=4)
    assert len(calls) == 2 + again


def test_a_missing_input_is_named(project):
    with pytest.raises(UserError, match="nothing: missing; this study needs it"):
        items.results_folder("s", [Path("nothing")])
    with pytest.raises(UserError, match=r"trained\.safetensors: missing; this study needs it"):
        lengths.main()


def test_rounded_weights_by_hand():
    weight = torch.tensor([[1.0, -0.4, 0.1], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[1.0, -3 / 7, 1 / 7], [0.0, 0.0, 0.0]])  # four bits: -7 to 7 times 1/7
    torch.testing.assert_close(sensitivity.rounded(weight, 4), expected)
    assert (sensitivity.rounded(weight, 8) - weight).abs().max() <= 0.5 / 127


def test_each_row_changes_one_layer_alone():
    network = trained(NETWORK)
    rows = [row for compute in sensitivity.items(network, colors(40), colors(20)).values() for row in compute()]
    assert rows[0] == {**rows[0], "method": "none", "macs": macs(network)}
    assert {row["method"] for row in rows} == {"none", "taylor", "random", "low_rank", "bits"}
    assert len(rows) == 1 + 2 * (5 + 5 + 5 + 3)
    removed = {(row["layer"], row["level"]): row["macs"] for row in rows if row["method"] == "taylor"}
    for layer, after in (("conv0", 27 * 8 + 9 * 8 * 16 / 4), ("conv2", 27 * 16 + 9 * 16 * 8 / 4)):
        head = (16 if layer == "conv0" else 8) * 8 + 8 * 10
        assert removed[layer, 0.5] == after * 32 * 32 + head
    gains = sensitivity.gains_by_block({"conv0": 0.5, "pool1": 0.75, "conv2": 0.625})
    assert gains == {"pool1": 25, "conv2": -12.5}
    beside = heat_map([row | {"csi_gain": gains.get(row["layer"])} for row in rows]).axes[4]
    assert [bar.get_width() for bar in beside.patches] == [0, -12.5]


def test_points_of_the_curves_run_by_the_settings_of_params(monkeypatch):
    network = trained(TWO_BLOCKS)
    separation = {"csi": dict(zip(("conv0", "pool1", "conv2", "pool3"), (0.5, 0.6, 0.9, 0.8), strict=True))}
    context = Context(colors(60), colors(30), 0, candidate(network), separation)
    params = read_yaml(TOP / "params.yaml")
    params["compress"]["train"]["repair"]["batch_size"] = params["compress"]["train"]["refine"]["batch_size"] = 20
    chosen = ("taylor-50", "random-50", "low_rank-70", "truncated-2")
    monkeypatch.setattr(curves, "POINTS", {name: curves.POINTS[name] for name in chosen})
    rows = [row for compute in curves.items(params, context).values() for row in compute()]
    assert [row["family"] for row in rows] == ["none", "taylor", "random", "low_rank", "truncated"]
    whole, taylor, random, low_rank, truncated = rows
    assert taylor["macs"] == random["macs"] < whole["macs"]
    assert taylor["image_passes"] == random["image_passes"] > low_rank["image_passes"] >= 60  # a budget, not epochs
    assert whole["image_passes"] == truncated["image_passes"] == 0
    assert truncated["parameters"] < whole["parameters"]
    assert len(curves.accuracy_against_cost(rows).axes) == 2


def test_budgets_buy_every_family_the_same_compute(monkeypatch):
    context = Context(colors(60), colors(30), 0, candidate(trained(TWO_BLOCKS)))
    params = read_yaml(TOP / "params.yaml")
    for training in params["compress"]["train"].values():
        training["batch_size"] = 20
    params["compress"]["budget"] = 1  # so nothing is taken from the tree
    monkeypatch.setattr(budgets, "BUDGETS", (2.0, 4.0))
    rows = [row for compute in budgets.items(params, context).values() for row in compute()]
    assert [(row["family"], row["budget"]) for row in rows] == list(product(budgets.FAMILIES, (2, 4)))
    by_item = {(row["family"], row["budget"]): row for row in rows}
    assert len({by_item[family, 2]["macs"] for family in ("magnitude", "random", "scratch")}) == 1
    for family in budgets.FAMILIES:
        assert by_item[family, 4]["pflop"] / by_item[family, 2]["pflop"] == pytest.approx(2, rel=0.2)
    spent = [by_item[family, 4]["pflop"] for family in budgets.FAMILIES]
    assert max(spent) < 1.2 * min(spent)
    lines = accuracy_against_budget(rows).axes[0].lines
    assert [line.get_xdata().tolist() for line in lines] == [[2, 4]] * 4


def test_what_the_tree_has_made_with_the_same_budget_is_not_made_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, context = trained(TWO_BLOCKS), Context(colors(60), colors(30), 0, candidate(trained(TWO_BLOCKS)))
    with atomic(network_path("low_rank")) as temporary:
        save_recorded(made, Record(edition="sample", pflop_after_root=0.25), temporary)
    params = read_yaml(TOP / "params.yaml")
    (row,) = budgets.items(params, context)[f"low_rank-{params['compress']['budget']:g}"]()
    cost = {"budget": params["compress"]["budget"], "macs": macs(made), "pflop": 0.25}
    assert row == {"family": "low_rank", "val_accuracy": context.validation_accuracy(made)} | cost


def test_a_long_image_moves_the_center_of_its_class_but_not_at_unit_length():
    """Class 0 points to the right, class 1 upward; the third image of class 0 is very long and turned a little."""
    train = np.array([[1.0, 0.0], [1.0, 0.1], [100.0, 60.0], [0.0, 1.0], [0.1, 1.0], [0.0, 1.0]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    table = {row["class"]: row for row in lengths.rows(train, labels, train[[0, 3]], labels[[0, 3]], CLASSES)}
    first, second = table["airplane"], table["automobile"]
    assert first["largest_squared_length"] == pytest.approx(100**2 + 60**2)
    assert first["median_squared_length"] == pytest.approx(1.01)
    assert (first["accuracy"], first["accuracy_unit"], second["accuracy"]) == (0, 1, 1)
    assert (table["all"]["accuracy"], table["all"]["accuracy_unit"]) == (0.5, 1)


def test_separation_of_the_last_layers_of_a_whole_and_of_a_cut_network(monkeypatch):
    networks = {"root": trained(plan(8, "pool", 16, "pool", head=(16,))), "cut": trained(plan(8, "pool"))}
    monkeypatch.setattr(branches, "network_path", lambda name: name)
    monkeypatch.setattr(branches, "load", networks.get)
    train, test = colors(60), colors(40)
    rows = [row for name in networks for row in branches.last_layers(name, ["pool1", "conv2", "pool3"], train, test)]
    assert [row["block"] for row in rows] == ["pool1", "conv2", "pool3", "logits", "pool1", "logits"]
    features, others = (lengths.pooled(networks["root"], split.images) for split in (train, test))
    oracle = NearestCentroid().fit(features, train.labels).score(others, test.labels)
    assert rows[2]["csi_pooled"] == pytest.approx(oracle)
    panels = separation_of_branches(rows, "root", {"one": ["cut"], "two": []}).axes
    assert [[len(line.get_xdata()) for line in axes.lines] for axes in panels] == [[4, 2], [4]]
    assert list(panels[0].lines[1].get_xdata()) == [0, 3]  # the logits are in one column


def test_another_seed_runs_each_stage_once_in_a_folder_of_its_own(project, monkeypatch):
    for path in (seeds.PIPELINE, seeds.POSITIONS, *map(seeds.network_path, seeds.GIVEN), "stages/b.py"):
        write(path)
    Path("data/prepared").mkdir()
    params = yaml.safe_load("# all\nseed: 3\nmodel: {seed: 0, lr: 5.0e-05, head: null}\n")
    ran, found = [], {"val_accuracy": 0.5, "test_accuracy": 0.75}

    def run(folder, stage, recipe):
        if len(ran) == 4:
            raise UserError("stopped")
        ran.append((stage, recipe))
        written = folder / str(seeds.OUTPUTS[stage]).format(recipe)
        write(written)
        write(written.with_suffix(".json"), json.dumps(found | {"predicted": recipe}))

    monkeypatch.setattr(seeds, "run", run)
    folder, recipes = project / "seed-3", ("slim", "tuned")
    with pytest.raises(UserError, match="stopped"):
        seeds.repeated(folder, params, recipes)
    assert ran == [(stage, "slim") for stage in ("compress", "export", "test")] + [("compress", "tuned")]
    ran.clear()
    assert seeds.repeated(folder, params, recipes) == {name: found | {"predicted": name} for name in recipes}
    assert ran == [("export", "tuned"), ("test", "tuned")]
    assert read_yaml(folder / "params.yaml") == params
    assert (folder / "src/core/a.py").exists()
    assert (folder / "data/prepared").resolve() == project / "data/prepared"


def test_curves_are_those_of_the_original_recipe(project, monkeypatch):
    write("params.yaml", "train: {recipe: fast, target_accuracy: 0.9}\n")
    with pytest.raises(UserError, match="recipe is 'fast'; this study needs 'original'"):
        original.main()
    write("params.yaml", "train: {recipe: original, target_accuracy: 0.9}\n")
    write_curves(FOLDER)
    write(original.METRICS, '{"test": {"accuracy": 0.5}}')
    PREPARED.mkdir()
    save_info(PREPARED, INFO)
    monkeypatch.setattr(original, "REFERENCE_TRAINING", TOP / original.REFERENCE_TRAINING)
    original.main()
    rows = read_csv(original.RESULTS)
    assert {name: [row[name] for row in rows] for name in rows[0]} == RUN
    assert original.RESULTS.with_suffix(".png").exists()
    assert json.loads(original.RESULTS.with_suffix(".json").read_text()) == {"test": {"accuracy": 0.5}}


def test_params_without_a_seed_are_refused(project, monkeypatch):
    write("params.yaml", "seeds: 0\n")
    monkeypatch.setattr("sys.argv", ["seeds"])
    with pytest.raises(ParamsError, match=r"params\.yaml: seed: missing"):
        seeds.main()


def test_each_seed_is_compared_within_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "RESULTS", tmp_path / "seeds.csv")
    monkeypatch.setattr(seeds, "PAIRS", tmp_path / "pairs.csv")
    monkeypatch.setattr(seeds, "POOLED", tmp_path / "pooled.csv")
    measured = {
        seed: {
            name: {"val_accuracy": 0.5, "test_accuracy": right / 4, "predicted": digits, "macs": 1}
            for name, digits, right in (("tuned", tuned, 4), ("slim", "00010209", 3))
        }
        for seed, tuned in ((0, "00010203"), (5, "00010209"))
    }
    seeds.write_tables(measured, np.array([0, 1, 2, 3]))
    assert read_csv(seeds.RESULTS)[3] == {"seed": 5, "recipe": "slim", "val_accuracy": 0.5, "test_accuracy": 0.75}
    assert [(row["seed"], row["recipe"], row["reference"], row["points"]) for row in read_csv(seeds.PAIRS)] == [
        (0, "slim", "tuned", -25),
        (5, "slim", "tuned", 0),
    ]
    (pooled,) = read_csv(seeds.POOLED)
    assert (pooled["recipe"], pooled["reference"], pooled["points"]) == ("slim", "tuned", -12.5)
