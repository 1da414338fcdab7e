"""The comparison table, the Pareto front and its pictures."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml

from src.core.errors import ParamsError, UserError
from src.pictures.pareto import AXES, pareto
from src.pictures.style import save_figure
from src.report.comparison import comparison_rows, formatted, headline_metrics, pareto_front
from stages import compare as stage

ROOT = Path(__file__).parents[1]
HEADER = (
    "recipe,edition,val_accuracy,test_accuracy,accuracy_drop_points,parameters,nonzero_parameters,macs,macs_ratio,"
    "bytes,bytes_ratio,latency_ms_b1,latency_ms_b64,latency_b1_ratio"
)


def cost(accuracy: float, scale: int = 1, edition: str = "sample") -> dict:
    """What the stage test writes for a network ``scale`` times smaller than dense."""
    return {
        "edition": edition,
        "val_accuracy": accuracy + 0.01,
        "test_accuracy": accuracy,
        "parameters": 1200 // scale,
        "nonzero_parameters": 1100 // scale,
        "macs": 24_000 // scale**2,
        "bytes": 6000 // scale,
        "widths": {"convolutions": {"conv1_1": 64}, "hidden": {}},
        "steps": ["done"],
        "note": "",
        "image_passes": 5,
        "pflop": 0.5,
        "predicted": "0123",
    }


def timing(milliseconds: float, ratio: float, edition: str = "sample") -> dict:
    batches = {
        name: {"network": {"median_ms": milliseconds * n}, "ratio": ratio} for name, n in (("b1", 1), ("b64", 50))
    }
    return {"edition": edition, **batches}


COSTS = {"small": cost(0.905, 4), "dense": cost(0.9), "int8": cost(0.87, 2)}
TIMINGS = {"small": timing(0.5, 8.2), "dense": timing(4, 1.01), "int8": timing(2, 1.9)}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with metrics of three recipes, and of one that params.yaml no longer names."""
    stale = {"gone": cost(0.1, edition="official")}
    for folder, group in (("models/tested", COSTS | stale), ("metrics/benchmark", TIMINGS | stale)):
        (tmp_path / folder).mkdir(parents=True)
        for recipe, values in group.items():
            (tmp_path / folder / f"{recipe}.json").write_text(json.dumps(values))
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    set_recipes(tmp_path, {"dense": {}, "small": {}, "int8": {}})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_recipes(folder: Path, recipes: object) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["compress"]["recipes"] = recipes
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def test_rows_against_values_worked_out_by_hand():
    dense, small, int8 = comparison_rows(COSTS, TIMINGS)
    assert [row["recipe"] for row in (dense, small, int8)] == ["dense", "small", "int8"]
    assert (small["macs_ratio"], small["bytes_ratio"], small["latency_b1_ratio"]) == (16, 4, 8.2)
    assert (small["latency_ms_b1"], small["latency_ms_b64"]) == (0.5, 25)
    assert small["accuracy_drop_points"] == pytest.approx(-0.5)
    assert int8["accuracy_drop_points"] == pytest.approx(3)
    assert (dense["macs_ratio"], dense["bytes_ratio"], dense["accuracy_drop_points"]) == (1, 1, 0)
    assert (int8["parameters"], int8["nonzero_parameters"], int8["macs"], int8["bytes"]) == (600, 550, 6000, 3000)


def test_decimals_are_fixed_and_no_zero_is_negative():
    row = formatted(comparison_rows(COSTS, TIMINGS)[0] | {"accuracy_drop_points": -0.001})
    assert ",".join(row) == HEADER
    assert row["test_accuracy"] == "0.9000"
    assert row["accuracy_drop_points"] == "0.00"
    assert row["bytes"] == "6000"


@pytest.mark.parametrize("group", [COSTS, TIMINGS])
def test_editions_are_not_mixed(group):
    other = group | {"int8": group["int8"] | {"edition": "official"}}
    with pytest.raises(UserError, match="int8 official"):
        comparison_rows(*(other if pool is group else pool for pool in (COSTS, TIMINGS)))


def test_summary_is_flat_short_and_leaves_out_what_is_not_there():
    rows = comparison_rows(COSTS, TIMINGS)
    expected = {"edition": "sample", "dense_val_accuracy": 0.91, "dense_test_accuracy": 0.9, "int8_test_accuracy": 0.87}
    assert headline_metrics(rows) == expected
    full = headline_metrics([*rows, rows[1] | {"recipe": "flagship"}])
    assert len(full) == 8
    assert full["flagship_macs_ratio"] == 16


@pytest.mark.parametrize("seed", range(20))
def test_pareto_front_against_brute_force(seed):
    points = [tuple(map(float, pair)) for pair in np.random.default_rng(seed).integers(0, 6, (12, 2))]

    def beaten(point):
        return any(o[0] <= point[0] and o[1] >= point[1] and o != point for o in points)

    front = pareto_front(points)
    assert sorted(front) == [i for i, point in enumerate(points) if not beaten(point)]
    assert [points[i] for i in front] == sorted(points[i] for i in front)


def test_labels_cover_neither_each_other_nor_a_point_even_where_points_coincide():
    dense, *others = comparison_rows(COSTS, TIMINGS)
    rows = [row | {"recipe": f"recipe {i}"} for i, row in enumerate([*others, *[dense] * 7])]
    axes = pareto(rows, "bytes").axes[0]
    boxes = [super(type(label), label).get_window_extent() for label in axes.texts]
    assert sorted(label.get_text() for label in axes.texts) == sorted(row["recipe"] for row in rows)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    points = axes.transData.transform([(row["bytes"], 100 * row["test_accuracy"]) for row in rows])
    assert not any(box.contains(*point) for box in boxes for point in points)
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


@pytest.mark.parametrize("column", AXES)
def test_pictures_name_axes_units_and_edition_and_keep_their_bytes(tmp_path, column):
    axes = pareto(comparison_rows(COSTS, TIMINGS), column).axes[0]
    assert "(" in axes.get_xlabel()
    assert "(%)" in axes.get_ylabel()
    assert "sample" in axes.get_title()
    for name in ("one.png", "two.png"):
        save_figure(pareto(comparison_rows(COSTS, TIMINGS), column), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_stage_writes_table_summary_and_history_of_the_recipes_in_params(workspace):
    stage.main()
    header, *rows = (workspace / "metrics/comparison.csv").read_text().splitlines()
    assert header == HEADER
    assert [row.split(",")[0] for row in rows] == ["dense", "small", "int8"]
    assert rows[1] == "small,sample,0.9150,0.9050,-0.50,300,275,1500,16.00,1500,4.00,0.500,25.00,8.20"
    assert json.loads((workspace / "metrics/summary.json").read_text())["edition"] == "sample"
    history = json.loads((workspace / "metrics/recipes.json").read_text())["recipes"]
    assert list(history) == ["dense", "small", "int8"]
    widths = {"convolutions": {"conv1_1": 64}, "hidden": {}}
    assert history["int8"] == {"steps": ["done"], "note": "", "widths": widths, "image_passes": 5, "pflop": 0.5}


def test_stage_names_the_missing_metrics_and_writes_nothing(workspace):
    (workspace / "metrics/benchmark/int8.json").unlink()
    with pytest.raises(UserError, match=r"metrics/benchmark/int8\.json"):
        stage.main()
    assert not (workspace / "metrics/comparison.csv").exists()


@pytest.mark.parametrize(("recipes", "told"), [({"small": {}}, "dense"), ({}, "recipes"), ([], "recipes")])
def test_stage_refuses_recipes_without_dense(workspace, recipes, told):
    set_recipes(workspace, recipes)
    with pytest.raises(ParamsError, match=told):
        stage.main()
