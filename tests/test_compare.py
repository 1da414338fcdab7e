"""The comparison table, the Pareto front and its pictures."""

import json
from dataclasses import astuple
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from networks import INFO
from scipy import stats

from src.core.errors import ParamsError, UserError
from src.data.prepared import save_info
from src.pictures.pareto import colors, pareto
from src.results import comparison
from src.results.accuracy import as_text, from_text
from src.results.history import is_control
from src.results.intervals import Difference, flips, paired_difference, pooled_difference, verdict
from stages import compare as stage
from stages.draw import PARETO

ROOT = Path(__file__).parents[1]
HEADER = (
    "recipe,edition,parent,val_accuracy,test_accuracy,balanced_accuracy,reference,difference_points,difference_low,"
    "difference_high,claim,dense_points,tuned_points,parameters,nonzero_parameters,macs,macs_ratio,bytes,bytes_ratio,bytes_ratio_half,packed_bytes,"
    "xz_bytes,coded_bytes,stored_bytes,latency_ms_b1,latency_b1_ratio,latency_cold_ratio,latency_ms_b64,"
    "latency_b64_ratio,image_passes,pflop,pflop_after_root,"
    "settings_tried"
)
LABELS = np.arange(20) % 10
RECIPES = {
    "dense": {"from": "trained", "step": "keep"},
    "tuned": {"from": "trained", "step": "train_on"},
    "small": {"from": "trained", "step": "small", "train": {"lr_peak": 0.02}},
    "int8": {"from": "small", "step": "quantize"},
}
PARENTS = {name: recipe["from"] for name, recipe in RECIPES.items()}
TRIALS = ["trained", "trained", "small", "other"]


def cost(wrong: int, scale: int = 1, edition: str = "sample", spent: float = 0.0) -> dict:
    """What export and test write for a network ``scale`` times smaller than dense, wrong on the first images."""
    return {
        "edition": edition,
        "val_accuracy": 0.91,
        "test_accuracy": 1 - wrong / len(LABELS),
        "parameters": 1200 // scale,
        "nonzero_parameters": 1100 // scale,
        "macs": 24_000 // scale**2,
        "bytes": 6000 // scale,
        "packed_bytes": 4800 // scale,
        "xz_bytes": float("nan"),
        "coded_bytes": float("nan"),
        "widths": {"convolutions": {"conv1_1": 64}, "hidden": {}},
        "steps": ["done"],
        "note": "",
        "image_passes": 9,
        "pflop": 0.5,
        "pflop_after_root": spent,
        "weights": [
            {"value": -0.1, "count": 300, "zeros": 0},
            {"value": 0.0, "count": 800, "zeros": 500},
            {"value": 0.1, "count": 100, "zeros": 0},
        ],
        "codebook": [],
        "predicted": "".join(f"0{(label + (i < wrong)) % 10}" for i, label in enumerate(LABELS)),
    }


def timing(milliseconds: float, ratio: float, edition: str = "sample") -> dict:
    return {
        "edition": edition,
        "b1": {"median_ms": milliseconds, "ratio": ratio},
        "b1_cold": {"median_ms": 2 * milliseconds, "ratio": ratio / 2},
        "b64": {"median_ms": 50 * milliseconds, "ratio": ratio / 4},
    }


TESTED = {"small": cost(1, 4, spent=0.2), "dense": cost(2), "int8": cost(6, 2, spent=0.2), "tuned": cost(0, spent=0.2)}
TIMINGS = {"small": timing(0.5, 8.2), "dense": timing(4, 1.0), "int8": timing(2, 1.9), "tuned": timing(4, 1.0)}


def compared(tested: dict = TESTED, timings: dict = TIMINGS) -> list[dict]:
    return comparison.comparison_rows(tested, timings, PARENTS, LABELS, TRIALS, 0.5)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with metrics of four recipes, and of one that params.yaml no longer names."""
    for folder in ("onnx", "tested", "coded"):
        (tmp_path / "models" / folder).mkdir(parents=True)
    for recipe, values in (TESTED | {"gone": cost(9, edition="official")}).items():
        write_measured(tmp_path, recipe, values)
    (tmp_path / "models/coded/small.json").write_text('{"coded_bytes": 800, "xz_bytes": 900}')
    timings = {recipe: {kind: values[kind] for kind in ("b1", "b1_cold", "b64")} for recipe, values in TIMINGS.items()}
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/benchmark.json").write_text(json.dumps({"edition": "sample", "recipes": timings}))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/trials.csv").write_text("\n".join(["name,recipe", *(f"t,{name}" for name in TRIALS)]))
    (tmp_path / "data/prepared").mkdir(parents=True)
    images = np.zeros((len(LABELS), 3, 32, 32), np.uint8)
    np.savez(tmp_path / "data/prepared/test.npz", images=images, labels=LABELS.astype(np.uint8))
    save_info(tmp_path / "data/prepared", INFO)
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    set_recipes(tmp_path, RECIPES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_measured(folder: Path, recipe: str, values: dict) -> None:
    classified = {key: values[key] for key in ("test_accuracy", "predicted")}
    exported = {key: value for key, value in values.items() if key not in classified}
    (folder / f"models/onnx/{recipe}.json").write_text(json.dumps(exported))
    (folder / f"models/tested/{recipe}.json").write_text(json.dumps(classified))


def set_recipes(folder: Path, recipes: object) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"compress": params["compress"] | {"recipes": recipes}, "coded": ["small"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def test_rows_against_values_worked_out_by_hand():
    dense, small, int8, tuned = compared()
    assert [row["recipe"] for row in (dense, small, int8, tuned)] == ["dense", "small", "int8", "tuned"]
    assert (small["macs_ratio"], small["bytes_ratio"], small["latency_b1_ratio"]) == (16, 4, 8.2)
    assert (small["latency_ms_b1"], small["latency_ms_b64"]) == (0.5, 25)
    assert (small["latency_cold_ratio"], small["latency_b64_ratio"]) == (4.1, 2.05)
    assert (dense["macs_ratio"], dense["bytes_ratio"], dense["difference_points"]) == (1, 1, 0)
    assert (int8["parameters"], int8["nonzero_parameters"], int8["macs"], int8["bytes"]) == (600, 550, 6000, 3000)
    assert np.isnan(small["bytes_ratio_half"])


def test_a_fine_tuned_recipe_is_compared_with_tuned_and_the_others_with_dense():
    dense, small, int8, tuned = compared()
    assert [row["reference"] for row in (dense, small, int8, tuned)] == ["dense", "tuned", "tuned", "dense"]
    assert small["difference_points"] == pytest.approx(-5)
    assert int8["difference_points"] == pytest.approx(-30)
    assert tuned["difference_points"] == pytest.approx(10)
    without = {name: found for name, found in TESTED.items() if name != "tuned"}
    assert {row["reference"] for row in compared(without)} == {"dense"}
    untrained = TESTED | {"int8": cost(6, 2)}
    assert comparison.reference("int8", untrained) == "dense"


def test_trials_are_those_of_a_recipe_and_its_ancestors_and_not_the_roots():
    assert [row["settings_tried"] for row in compared()] == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.36, 0.0, "inside"),
        (0.1, 0.4, "inside"),
        (-0.89, -0.31, "not decided"),
        (-0.5, 0.1, "not decided"),
        (-1.2, -0.5, "not decided"),
        (-1.89, -0.97, "outside"),
    ],
)
def test_a_claim_is_decided_where_the_whole_interval_is_on_one_side_of_the_margin(low, high, expected):
    assert verdict(Difference((low + high) / 2, low, high), 0.5) == expected


def test_points_stand_against_dense_and_against_tuned():
    dense, small, int8, tuned = compared()
    assert [row["dense_points"] for row in (dense, small, int8, tuned)] == pytest.approx([0, 5, -20, 10])
    assert [row["tuned_points"] for row in (dense, small, int8, tuned)] == pytest.approx([-10, -5, -30, 0])
    assert [row["claim"] for row in (dense, small, int8, tuned)] == ["", "not decided", "outside", "not decided"]
    without = compared({name: found for name, found in TESTED.items() if name != "tuned"})
    assert all(np.isnan(row["tuned_points"]) for row in without)


def test_stored_is_the_coded_file_where_there_is_one_and_else_gzip():
    assert comparison.stored_bytes(cost(0)) == 4800
    assert comparison.stored_bytes(cost(0) | {"coded_bytes": 5000}) == 5000


def better(**recipes):
    """Which of ``recipes``, given by MACs, bytes and accuracy on validation, is better than the flagship."""
    names, recipes = ("macs", "bytes", "val_accuracy"), {"flagship": (100, 40, 0.92), **recipes}
    rows = [{"recipe": name, **dict(zip(names, values, strict=True))} for name, values in recipes.items()]
    return comparison.better_on_validation(rows, "flagship")


def test_another_recipe_is_better_if_validation_says_so_at_the_same_cost():
    assert better() == ""
    assert better(scratch_int8=(104, 41, 0.921)) == "scratch_int8"
    assert better(a=(96, 10, 0.93), b=(100, 40, 0.94)) == "b"
    rivals = {"as_good": (100, 40, 0.92), "slower": (106, 40, 0.93), "faster": (94, 40, 0.93)}
    assert better(**rivals, in_floats=(100, 160, 0.93)) == ""


def test_size_is_also_compared_with_half():
    tested = {"dense": cost(2), "half": cost(2) | {"bytes": 3000}, "small": cost(2) | {"bytes": 100}}
    timings = dict.fromkeys(tested, timing(1, 1))
    rows = comparison.comparison_rows(tested, timings, dict.fromkeys(tested, "trained"), LABELS, [], 0.5)
    assert [row["bytes_ratio_half"] for row in rows] == [0.5, 1, 30]


@pytest.mark.parametrize(("better", "worse"), [(30, 10), (0, 25), (5, 5), (0, 0)])
def test_interval_agrees_with_the_bootstrap_of_scipy(better, worse):
    right, other = np.ones(1000, bool), np.ones(1000, bool)
    right[:worse] = False
    other[worse : worse + better] = False
    found = paired_difference(right, other)
    assert found.points == pytest.approx((better - worse) / 10)
    if better or worse:
        pairs = right.astype(float) - other
        drawn = stats.bootstrap((pairs,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
        assert (found.low, found.high) == pytest.approx((100 * drawn.low, 100 * drawn.high), abs=0.15)
    else:
        assert (found.low, found.high) == pytest.approx((-0.277, 0.277), abs=0.001)  # 1.96 sqrt(2) / 1002
    assert astuple(paired_difference(other, right)) == pytest.approx((-found.points, -found.high, -found.low))


@pytest.mark.parametrize(("gain", "loss"), [(0.01, 0.01), (0.02, 0.1), (0.0, 0.05)])
def test_interval_covers_the_true_difference_in_about_95_of_100_cases(gain, loss):
    """All that can happen to 60 images, with its probability."""
    covered = 0.0
    for better, worse in ((b, w) for b in range(61) for w in range(61 - b)):
        right, other = np.ones(60, bool), np.ones(60, bool)
        right[:worse], other[worse : worse + better] = False, False
        found = paired_difference(right, other)
        if found.low <= 100 * (gain - loss) <= found.high:
            covered += stats.multinomial.pmf([better, worse, 60 - better - worse], 60, [gain, loss, 1 - gain - loss])
    assert covered >= 0.94


def test_few_images_of_which_none_differs_decide_nothing():
    assert verdict(paired_difference(np.ones(27, bool), np.ones(27, bool)), 0.5) == "not decided"
    assert verdict(paired_difference(np.ones(10_000, bool), np.ones(10_000, bool)), 0.5) == "inside"


def test_pooled_interval_against_hand_made_cases():
    """One of four images is worse in every seed: only images count. Images half and half by seed: only seeds count."""
    same = np.tile([False, True, True, True], (2, 1))
    found = pooled_difference(same, np.ones((2, 4), bool))
    half = stats.t.ppf(0.975, 3) * 25  # the standard error of -100, 0, 0, 0
    assert astuple(found) == pytest.approx((-25, -25 - half, -25 + half))
    seeds = np.repeat([[False], [True]], 4, axis=1)
    found = pooled_difference(seeds, np.ones((2, 4), bool))
    half = stats.t.ppf(0.975, 1) * 50  # the standard error of -100, 0
    assert astuple(found) == pytest.approx((-50, -50 - half, -50 + half))
    assert astuple(pooled_difference(same, same)) == (0, 0, 0)


def test_pooled_interval_covers_other_seeds_and_images():
    """1,000 times three seeds whose true difference is 0, but moves from seed to seed by a point."""
    drawn, covered = np.random.default_rng(0), 0
    for moved in drawn.normal(0, 0.01, (1000, 3, 1)):
        found = pooled_difference(drawn.random((3, 2000)) < 0.5 + moved, np.tile(drawn.random(2000) < 0.5, (3, 1)))
        covered += found.low <= 0 <= found.high
    assert covered >= 940


def test_interval_refuses_shapes_that_do_not_match():
    with pytest.raises(ValueError, match="two seeds"):
        pooled_difference(np.ones((1, 3), bool), np.ones((1, 3), bool))
    with pytest.raises(ValueError, match="one shape"):
        paired_difference(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(ValueError, match="empty"):
        paired_difference(np.ones(0, bool), np.ones(0, bool))


def test_flips_against_a_loop_over_the_images():
    drawn = np.random.default_rng(0)
    labels, right, other = drawn.integers(0, 10, 300), drawn.random(300) < 0.8, drawn.random(300) < 0.7
    found = flips(right, other, labels, 10)
    for name in range(10):
        lost = sum(labels[i] == name and other[i] and not right[i] for i in range(300))
        gained = sum(labels[i] == name and right[i] and not other[i] for i in range(300))
        assert found[name].tolist() == [lost, gained]
    rows = comparison.flip_rows(TESTED, LABELS, INFO.classes)
    assert len(rows) == 3 * 10
    assert list(rows[0].values()) == ["small", "tuned", "airplane", 1, 0]


def test_predictions_of_other_images_are_named():
    with pytest.raises(UserError, match=r"^models/tested/small\.json: predicted: expected the classes of 19 images"):
        comparison.flip_rows(TESTED, LABELS[1:], INFO.classes)


def test_predictions_hold_256_classes():
    classes = np.array([0, 9, 10, 255])
    assert as_text(classes) == "00090aff"
    assert from_text("00090aff", 4, "here").tolist() == classes.tolist()
    for damaged in ("00090af", "00090a", "00090afx", None):
        with pytest.raises(UserError, match=r"^here: expected the classes of 4 images, two hexadecimal digits each"):
            from_text(damaged, 4, "here")


def test_balanced_accuracy_of_a_recipe_counts_each_class_the_same():
    labels = np.array([0] * 8 + [1, 1])
    tested = {"dense": cost(0) | {"predicted": as_text(np.array([0] * 9 + [1]))}}
    (row,) = comparison.comparison_rows(tested, {"dense": timing(1, 1)}, {"dense": "trained"}, labels, [], 0.5)
    assert row["balanced_accuracy"] == 0.75


def test_decimals_are_fixed_and_no_zero_is_negative():
    row = comparison.formatted(compared()[0] | {"difference_points": -0.001})
    assert ",".join(row) == HEADER
    assert row["test_accuracy"] == "0.9000"
    assert row["difference_points"] == "0.00"
    assert (row["bytes"], row["packed_bytes"]) == ("6000", "4800")


def test_editions_are_not_mixed(workspace):
    comparison.require_one_edition(TESTED, TIMINGS)
    for group in (TESTED, TIMINGS):
        other = group | {"int8": group["int8"] | {"edition": "official"}}
        with pytest.raises(UserError, match="int8 official"):
            comparison.require_one_edition(*(other if pool is group else pool for pool in (TESTED, TIMINGS)))
    save_info(workspace / "data/prepared", INFO.model_copy(update={"edition": "official"}))
    with pytest.raises(UserError, match="data/prepared official"):
        stage.main()


def test_summary_is_flat_short_and_tells_nothing_of_the_test_set():
    rows = compared()
    assert comparison.headline_metrics(rows) == {"dense_val_accuracy": 0.91}
    full = comparison.headline_metrics([*rows, rows[1] | {"recipe": "flagship"}])
    assert full == {
        "dense_val_accuracy": 0.91,
        "flagship_val_accuracy": 0.91,
        "flagship_bytes": 1500,
        "flagship_macs": 1500,
    }


@pytest.mark.parametrize("seed", range(20))
def test_pareto_front_against_brute_force(seed):
    points = [tuple(map(float, pair)) for pair in np.random.default_rng(seed).integers(1, 7, (12, 2))]

    def beaten(point):
        return any(o[0] <= point[0] and o[1] >= point[1] and o != point for o in points)

    front = [points[i] for i in comparison.pareto_front(points)]
    assert front == sorted({point for point in points if not beaten(point)})


def test_pareto_front_takes_one_of_the_points_of_equal_cost():
    assert comparison.pareto_front([(100, 0.90), (104, 0.92), (100, 0.91), (95, 0.89), (95, 0.89)]) == [3, 1]
    assert comparison.pareto_front([(105, 0.9), (100, 0.8)]) == [0]
    assert comparison.pareto_front([(108, 0.95), (104, 0.94), (102, 0.93)]) == [2, 0]  # being equal is not transitive


def test_what_is_off_the_front_is_compared_with_a_front_that_costs_little_more():
    rows = [{"recipe": "a", "macs": 100}, {"recipe": "b", "macs": 97}]
    found = [
        colors(rows, "macs", rows[:1], [{"recipe": "b", "reference": "a", "low": low, "high": 2}]) for low in (-1, 1)
    ]
    assert found == [{"a": "orange", "b": "gray"}, {"a": "orange", "b": "blue"}]


def test_labels_cover_neither_each_other_nor_a_point_even_where_points_coincide():
    dense, *others = compared()
    rows = [dense, *(row | {"recipe": f"recipe {i}"} for i, row in enumerate([*others, *[dense] * 6]))]
    axes = pareto(rows, [], "bytes", INFO).axes[0]
    boxes = [super(type(label), label).get_window_extent() for label in axes.texts]
    assert sorted(label.get_text() for label in axes.texts) == sorted(row["recipe"] for row in rows)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    points = axes.transData.transform([(row["bytes"], 100 * row["test_accuracy"]) for row in rows])
    assert not any(box.contains(*point) for box in boxes for point in points)
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


@pytest.mark.parametrize("column", PARETO)
def test_pictures_show_the_column_of_their_name_and_say_units_and_edition(column):
    axes = pareto(compared(), [], column, INFO).axes[0]
    units = {"bytes": "(bytes)", "stored": "gzip (bytes)", "macs": "(MACs)", "latency": "(ms)"}
    assert units[PARETO[column].removeprefix("pareto_")] in axes.get_xlabel()
    assert "(%)" in axes.get_ylabel()
    assert "sample" in axes.get_title()


def test_the_front_goes_through_what_is_best_on_validation_and_only_what_differs_from_it_is_ranked():
    names = ("recipe", "bytes", "val_accuracy", "test_accuracy")
    table = (
        ("dense", 100, 0.94, 0.93),
        ("front", 10, 0.92, 0.91),
        ("lucky", 20, 0.91, 0.95),  # better on test, which must not choose it
        ("same", 30, 0.90, 0.91),
        ("small", 5, 0.90, 0.92),
    )
    rows = [dict(zip(names, values, strict=True)) for values in table]
    pairs = [
        {"recipe": "lucky", "reference": "front", "low": 3.0, "high": 5.0},
        {"recipe": "front", "reference": "same", "low": -1.0, "high": 1.0},  # in the other order
        {"recipe": "same", "reference": "dense", "low": -5.0, "high": -1.0},  # not the one at its cost
    ]
    axes = pareto(rows, pairs, "bytes", INFO).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[5, 92], [10, 91], [100, 93], [100, 93]]
    front = [rows[4], rows[1], rows[0]]
    orange = dict.fromkeys(("dense", "front", "small"), "orange")
    assert colors(rows, "bytes", front, pairs) == {**orange, "lucky": "blue", "same": "gray"}


def test_stage_writes_table_summary_and_history_of_the_recipes_in_params(workspace):
    stage.main()
    header, *rows = (workspace / "metrics/comparison.csv").read_text().splitlines()
    assert header == HEADER
    assert [row.split(",")[0] for row in rows] == ["dense", "tuned", "small", "int8"]
    assert rows[2] == (
        "small,sample,trained,0.9100,0.9500,0.9500,tuned,-5.00,-19.86,10.77,not decided,5.00,-5.00,300,275,1500,16.00,"
        "1500,4.00,,1200,900,800,800,0.500,8.20,4.10,25.000,2.05,9,0.500,0.200,1"
    )
    assert json.loads((workspace / "metrics/summary.json").read_text()) == {"dense_val_accuracy": 0.91}
    history = json.loads((workspace / "metrics/recipes.json").read_text())["recipes"]
    assert list(history) == ["dense", "tuned", "small", "int8"]
    widths = {"convolutions": {"conv1_1": 64}, "hidden": {}}
    found = {"steps": ["done"], "note": "", "widths": widths, "image_passes": 9, "pflop": 0.5, "pflop_after_root": 0.2}
    assert history["int8"] == {"step": "quantize", "settings": {}, "control": False, **found}
    assert history["small"]["settings"] == {"train": {"lr_peak": 0.02}}
    assert [name for name, made in history.items() if made["control"]] == ["tuned", "small"]
    predictions = json.loads((workspace / "metrics/predictions.json").read_text())
    assert predictions["labels"] == 2 * "00010203040506070809"
    assert predictions["recipes"]["tuned"] == predictions["labels"]
    assert len((workspace / "plots/flips.csv").read_text().splitlines()) == 1 + 3 * 10
    header, *pairs = (workspace / "metrics/pairs.csv").read_text().splitlines()
    assert header == "recipe,reference,points,low,high"
    assert [pair.rsplit(",", 2)[0] for pair in pairs] == [
        "tuned,dense,10.0",
        "small,dense,5.0",
        "int8,dense,-20.0",
        "small,tuned,-5.0",
        "int8,tuned,-30.0",
        "int8,small,-25.0",
    ]


def test_stage_warns_where_validation_prefers_another_recipe_to_the_released_one(workspace, capsys):
    twins = {"flagship": cost(1, 4), "scratch_int8": cost(1, 4) | {"val_accuracy": 0.93}}
    for name, values in twins.items():
        write_measured(workspace, name, values)
    timed = json.loads((workspace / "metrics/benchmark.json").read_text())
    timed["recipes"] |= dict.fromkeys(twins, timed["recipes"]["small"])
    (workspace / "metrics/benchmark.json").write_text(json.dumps(timed))
    set_recipes(workspace, RECIPES | {name: {"from": "small", "step": "quantize"} for name in twins})
    stage.main()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("warning: flagship is released, but scratch_int8 is better on validation")
    summary = json.loads((workspace / "metrics/summary.json").read_text())
    assert summary["flagship_better_on_validation"] == "scratch_int8"


def test_stage_writes_the_histograms_of_all_recipes_and_the_codebooks_of_those_that_have_one(workspace):
    stage.main()
    header, *rows = (workspace / "plots/weights.csv").read_text().splitlines()
    assert header == "recipe,value,count,zeros"
    assert rows[:3] == ["dense,-0.1,300,0", "dense,0.0,800,500", "dense,0.1,100,0"]
    assert len(rows) == 3 * len(RECIPES)
    assert (workspace / "plots/codebook.csv").read_text() == "recipe,layer,value,count\n"
    books = [
        {"layer": "conv1_1", "value": -0.5, "count": 3},
        {"layer": "conv1_1", "value": 0.0, "count": 9},
        {"layer": "last", "value": 0.25, "count": 40},
    ]
    write_measured(workspace, "int8", TESTED["int8"] | {"codebook": books})
    stage.main()
    rows = (workspace / "plots/codebook.csv").read_text().splitlines()[1:]
    assert rows == ["int8,conv1_1,-0.5,3", "int8,conv1_1,0.0,9", "int8,last,0.25,40"]


@pytest.mark.parametrize(
    ("recipe", "default", "expected"),
    [
        ({"step": "train_on"}, "taylor", True),
        ({"step": "reinitialize"}, "taylor", True),
        ({"step": "small"}, "taylor", True),
        ({"step": "small", "widths": [8, 16]}, "taylor", False),
        ({"step": "prune_channels", "importance": "random"}, "taylor", True),
        ({"step": "prune_channels"}, "random", True),
        ({"step": "prune_channels"}, "taylor", False),
        ({"step": "prune_channels", "importance": "csi"}, "random", False),
        ({"step": "quantize"}, "random", False),
    ],
)
def test_controls_are_the_root_trained_on_new_weights_and_channels_by_chance(recipe, default, expected):
    assert is_control(recipe, {"prune_channels": {"importance": default}}) == expected


def test_stage_names_the_missing_file_or_timing_and_writes_nothing(workspace):
    (workspace / "models/tested/int8.json").unlink()
    with pytest.raises(UserError, match=r"models/tested/int8\.json"):
        stage.main()
    (workspace / "models/tested/int8.json").write_text('{"edition": "sample"}')
    with pytest.raises(UserError, match=r"models/tested/int8\.json: .*predicted.* is missing"):
        stage.main()
    keep = {"from": "trained", "step": "keep"}
    set_recipes(workspace, {"dense": keep, "new": keep})
    write_measured(workspace, "new", cost(1))
    with pytest.raises(UserError, match=r"metrics/benchmark\.json: holds no timing of new"):
        stage.main()
    assert not (workspace / "metrics/comparison.csv").exists()


@pytest.mark.parametrize(
    ("recipes", "told"),
    [
        ({"small": {}}, "dense is missing"),
        ({"dense": {"from": "trained"}}, "dense.step is missing"),
        ({"dense": {"step": "keep"}}, "dense.from is missing"),
        ({}, "recipes"),
        ([], "recipes"),
    ],
)
def test_stage_refuses_recipes_without_dense_or_parent_or_technique(workspace, recipes, told):
    set_recipes(workspace, recipes)
    with pytest.raises(ParamsError, match=told):
        stage.main()
