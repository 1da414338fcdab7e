"""The pictures: their labels and their numbers."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text
from networks import CLASSES, INFO
from PIL import Image
from test_curves import RUN

from src.data.prepared import SPLITS
from src.pictures import evaluation, style, training
from src.pictures.classes import accuracy_by_class, beyond_chance
from src.pictures.distribution import same_histograms, weights_and_codebooks
from src.pictures.family import family_tree, technique, tree_places
from src.pictures.pareto import pareto
from src.pictures.separation import positions, separation_by_class, separation_by_layer
from src.pictures.widths import pruned_shapes, widths_by_layer
from stages.draw import _published

ROOT = Path(__file__).parent.parent
OTHERS = {"small": (50_000, 90.0), "large": (9_000_000, 60.0)}


REFERENCE = {"train_accuracy": [0.35, 0.57], "val_accuracy": [0.46, 0.63]}
SCORES = {
    "train": 0.5,
    "test": 0.4,
    "train_in_sample": 0.7,
    "test_in_sample": 0.8,
    "train_same": 0.45,
    "test_same": 0.3,
    "train_many": 0.48,
    "test_many": 0.35,
}
ROWS = [
    {"layer": "features.0", "kind": "conv", "block": "1", **SCORES},
    {"layer": "features.1", "kind": "pool", "block": "1", **SCORES},
    {"layer": "avgpool", "kind": "pool", "block": "head", **SCORES},
    {"layer": "classifier.0", "kind": "linear", "block": "head", **SCORES},
]
INDICES = {"csi_pooled": 0.6, "probe": 0.8, "probe_gap_error": 0.01, "si": 0.5, "effective_rank": 12.5}
POSITIONS = [
    {"block": block, "csi": csi, "csi_gap_error": error, **INDICES}
    for block, csi, error in (("conv1_1", 0.7, 0.006), ("conv1_2", 0.89, 0.006), ("pool1", 0.9, 0.0))
]
BY_CLASS = [
    {"layer": layer} | {name: i / 10 for i, name in enumerate(CLASSES)} for layer in ("features.0", "features.1")
]
CONFUSION = [{"actual": name, "predicted": CLASSES[i % 4]} for i, name in enumerate(CLASSES * 5)]
ACCURACIES = [{"class": name} | {f"{split}_accuracy": i / 10 for split in SPLITS} for i, name in enumerate(CLASSES)]
BINS = [
    {"low": 0.4, "high": 0.5, "confidence": 0.45, "accuracy": 0.5, "count": 3},
    {"low": 0.9, "high": 1.0, "confidence": 0.95, "accuracy": 0.8, "count": 40},
]
MISTAKES = [{"index": i, "actual": "cat", "predicted": "dog", "confidence": 0.987} for i in range(8)]
FLIPS = [
    {"recipe": recipe, "reference": "dense", "class": name, "became_wrong": wrong, "became_right": 3}
    for recipe, wrong in (("half", 0), ("int8", 5))
    for name in CLASSES
]
IMAGES = dict.fromkeys(CLASSES, 100)
DEMO = {  # the tree of demo.overrides: parent, technique, and the settings that the recipe changes
    "dense": ("trained", "keep", {}),
    "half": ("trained", "half", {}),
    "tuned": ("trained", "train_on", {"train": {"lr_peak": 0.002}}),
    "taught": ("trained", "distill", {}),
    "thin": ("trained", "factorize", {}),
    "sparse": ("trained", "prune_weights", {}),
    "shared": ("sparse", "share_weights", {}),
    "folded": ("trained", "fold", {}),
    "truncated": ("trained", "truncate", {}),
    "channels": ("truncated", "prune_channels", {"ratio": 0.5, "importance": "taylor"}),
    "flagship": ("channels", "quantize", {}),
    "scratch": ("channels", "reinitialize", {}),
    "small": ("channels", "small", {}),
}
CONTROLS = ("scratch", "small")
DENSE_WIDTHS = {"conv1_1": 16, "conv1_2": 16, "conv2_1": 32}
WIDTHS = {
    "thin": {"conv1_1": 16, "conv1_2.in": 4, "conv1_2.core": 5, "conv1_2": 16, "conv2_1": 32},
    "truncated": {"conv1_1": 16, "conv1_2": 16},
    **{name: {"conv1_1": 8, "conv1_2": 12} for name in ("channels", "flagship", "scratch")},
    "small": {"conv1_1": 8, "conv1_2": 8, "conv2_1": 16},
}
WEIGHTS = [  # of 1,000 weights: a bell, the same with zeros, and the bell once more
    {"recipe": name, "value": value, "count": count, "zeros": zeros}
    for name, counts in (
        ("dense", {-0.1: (100, 0), 0.0: (700, 0), 0.1: (200, 0)}),
        ("sparse", {-0.1: (100, 0), 0.0: (700, 650), 0.1: (200, 0)}),
        ("int8", {-0.1: (100, 0), 0.0: (700, 0), 0.1: (200, 0)}),
    )
    for value, (count, zeros) in counts.items()
]
BOOKS = [
    {"recipe": "shared", "layer": layer, "value": value, "count": count}
    for layer, book in (("conv1_1", {-0.5: 10, 0.0: 80, 0.25: 10}), ("last", {-0.02: 1, 0.08: 9}))
    for value, count in book.items()
]
PUBLISHED = [{"layer": row["layer"], "train_csi": 0.6, "test_csi": 0.55} for row in ROWS]


def tree(**recipes):
    """Rows of metrics/comparison.csv and recipes of metrics/recipes.json for recipes of `DEMO` or for ``recipes``."""
    chosen = recipes or DEMO
    rows = [compared_row(name, parent, place) for place, (name, (parent, *_)) in enumerate(chosen.items())]
    return rows, {name: history(name, step, settings) for name, (_, step, settings) in chosen.items()}


def compared_row(name, parent, place):
    accuracy = {"val_accuracy": 0.9 - place / 100, "test_accuracy": 0.8 - place / 100}
    difference = {"difference_points": -place, "difference_low": -place - 2.0, "difference_high": -place + 1.0}
    cost = {"bytes": 4_000_000 // (place + 1), "macs": 10_000_000 // (place + 1), "latency_ms_b1": 4 / (place + 1)}
    return {"recipe": name, "edition": "sample", "parent": parent, "reference": "dense"} | accuracy | difference | cost


def history(name, step, settings):
    hidden = {} if name in ("truncated", "channels", "flagship", "scratch") else {"hidden1": 32}
    widths = {"convolutions": WIDTHS.get(name, DENSE_WIDTHS), "hidden": hidden}
    return {"step": step, "settings": settings, "control": name in CONTROLS, "widths": widths}


def all_figures():
    rows, histories = tree()
    return {
        "pareto": pareto(rows, [], "bytes", INFO, CONTROLS),
        "family": family_tree(rows, histories, INFO),
        "widths": widths_by_layer(histories, INFO),
        "weights": weights_and_codebooks(WEIGHTS, BOOKS, INFO),
        "classes": accuracy_by_class(FLIPS, IMAGES, INFO),
        "confusion": evaluation.confusion(CONFUSION, INFO),
        "per_class": evaluation.class_accuracy(ACCURACIES, INFO),
        "reliability": evaluation.reliability_diagram(BINS, INFO),
        "mistakes": evaluation.mistakes(MISTAKES, torch.zeros(8, 3, 32, 32, dtype=torch.uint8), INFO),
        "training": training.training(RUN, REFERENCE, 0.9, INFO),
        "csi": separation_by_layer(ROWS, PUBLISHED, INFO),
        "positions": positions(POSITIONS, 0.01, INFO),
        "csi_by_class": separation_by_class(BY_CLASS, INFO),
    }


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_every_chart_names_its_axes_and_the_edition():
    for name, figure in all_figures().items():
        assert any("sample edition" in text for text in texts(figure)), name
        charts = [axes for axes in figure.axes if len(axes.get_yticks())]
        assert all(axes.get_ylabel() for axes in charts), name
        assert name in ("mistakes", "family") or any(axes.get_xlabel() for axes in charts), name


def test_a_saved_figure_names_no_version_and_is_not_blank(tmp_path):
    for figure in all_figures().values():
        style.save_figure(figure, tmp_path / "one.png")
        with Image.open(tmp_path / "one.png") as picture:
            assert "Software" not in picture.info
            assert np.std(picture) > 0.01 * 255


def test_confusion_shows_shares_by_actual_row():
    pairs = [(0, 0), (0, 0), (0, 5), (1, 1)]
    rows = [{"actual": CLASSES[actual], "predicted": CLASSES[predicted]} for actual, predicted in pairs]
    image = evaluation.confusion(rows, INFO).axes[0].images[0].get_array()
    assert image[0, 0] == pytest.approx(2 / 3)
    assert image[0, 5] == pytest.approx(1 / 3)
    assert image[1, 1] == 1
    assert image.sum() == pytest.approx(2)


def test_mistakes_name_the_predicted_and_the_actual_class():
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 32, 32)
    figure = evaluation.mistakes([MISTAKES[0] | {"index": 2}], images, INFO)
    assert "dog (98.7%)\nis: cat" in texts(figure)
    assert (figure.axes[0].images[0].get_array() == 2).all()


def test_a_network_without_mistakes_gets_a_picture_that_says_so():
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    assert any("No mistake" in text for text in texts(evaluation.mistakes([], images, INFO)))


def test_reliability_diagram_shows_the_calibration_error():
    error = (3 * 0.05 + 40 * 0.15) / 43
    assert any(f"{error:.4f}" in text for text in texts(evaluation.reliability_diagram(BINS, INFO)))


def test_training_says_when_the_target_was_reached():
    assert any("reached in epoch 3" in text for text in texts(training.training(RUN, REFERENCE, 0.9, INFO)))
    assert any("not reached" in text for text in texts(training.training(RUN, REFERENCE, 0.95, INFO)))


def test_csi_leaves_out_reference_points_of_another_head():
    axes = separation_by_layer(ROWS, PUBLISHED, INFO).axes[0]
    published = [line for line in axes.lines if "original study" in str(line.get_label())]
    assert [line.get_xdata().tolist() for line in published] == [[0, 1, 2]] * 2


def test_csi_splits_the_bias_into_its_two_parts():
    _, train, test = separation_by_layer(ROWS, PUBLISHED, INFO).axes
    for axes, parts in ((train, (25, -3)), (test, (50, -5))):
        assert [line.get_ydata()[0] for line in axes.lines[:2]] == pytest.approx(parts)


@pytest.mark.parametrize(("epsilon", "block"), [(0.009, "pool1"), (0.01, "conv1_2")])
def test_positions_mark_the_first_cut_within_epsilon_of_the_best(epsilon, block):
    figure = positions(POSITIONS, epsilon, INFO)
    assert f"CSI: cut after {block}" in texts(figure)  # conv1_2 is one point below pool1
    assert "linear probe: cut after conv1_1" in texts(figure)


def test_csi_by_class_has_a_row_for_each_class():
    image = separation_by_class(BY_CLASS, INFO).axes[0].images[0].get_array()
    assert image[:, 0].tolist() == [i / 10 for i in range(10)]


def test_technique_is_its_name_and_the_settings_that_the_recipe_changes():
    named = {name: technique(history) for name, history in tree()[1].items()}
    assert named["dense"] == "keep"
    assert named["tuned"] == "train_on (lr_peak 0.002)"
    assert named["channels"] == "prune_channels (ratio 0.5, importance taylor)"
    many = {f"setting{i}": i for i in range(9)}
    assert technique({"step": "new", "settings": many}) == "new (setting0 0, setting1 1, setting2 2, setting3 3, ..."


def test_pareto_shows_controls_as_rings_and_the_others_filled():
    rows, _ = tree()
    axes = pareto(rows, [], "macs", INFO, CONTROLS).axes[0]
    dots = [one for one in axes.collections if isinstance(one, PathCollection)]
    faces = {row["recipe"]: to_hex(dot.get_facecolor()[0]) for row, dot in zip(rows, dots, strict=True)}
    assert {name for name, face in faces.items() if face == "#ffffff"} == set(CONTROLS)
    assert any("control" in text for text in texts(axes.figure))
    assert not any("control" in text for text in texts(pareto(rows, [], "macs", INFO)))


def test_pareto_shows_networks_of_others_faintly_and_leaves_them_out_of_the_front():
    rows, _ = tree()
    alone, both = (pareto(rows, [], "bytes", INFO, (), others).axes[0] for others in ({}, OTHERS))
    assert both.lines[0].get_xydata().tolist() == alone.lines[0].get_xydata().tolist()
    colors = {label.get_text(): to_hex(label.get_color()) for label in both.texts}
    assert {name for name, color in colors.items() if color != "#000000"} == set(OTHERS)
    assert all(both.viewLim.contains(*point) for point in OTHERS.values())
    assert "networks of others" not in " ".join(texts(alone.figure))


def test_networks_of_others_are_shown_beside_the_whole_of_cifar_10_alone(monkeypatch):
    monkeypatch.chdir(ROOT)
    whole = INFO.model_copy(update={"name": "CIFAR-10", "edition": "official"})
    assert _published(whole)["LilNetX VGG16, 465x"] == (129_000, 92.6)
    for other in ({"edition": "sample"}, {"name": "SVHN"}):
        assert _published(whole.model_copy(update=other)) == {}


def test_pictures_of_recipes_work_with_dense_alone(tmp_path):
    rows, histories = tree(dense=DEMO["dense"])
    for figure in (
        pareto(rows, [], "bytes", INFO),
        family_tree(rows, histories, INFO),
        widths_by_layer(histories, INFO),
        accuracy_by_class([], IMAGES, INFO),
    ):
        style.save_figure(figure, tmp_path / "one.png")
        assert any("sample edition" in text for text in texts(figure))


def test_places_of_the_tree_are_lines_of_their_own_below_the_parent():
    places = tree_places({"a": "root", "d": "root", "b": "a", "c": "a"})
    assert places == {"root": (0, 0), "a": (1, 1), "b": (2, 2), "c": (2, 3), "d": (1, 4)}


def test_every_line_of_the_family_has_accuracies_and_size_and_controls_are_hollow():
    figure = family_tree(*tree(), INFO)
    rows, found = tree()[0], texts(figure)
    assert {row["recipe"] for row in rows} <= set(found)
    assert {"88.00", "78.00"} <= set(found)  # tuned, the third row
    assert {"4.0 MB", "2.0 MB"} <= set(found)
    assert "prune_channels (ratio 0.5, importance taylor)" in found
    dots = {dot.get_label(): to_hex(dot.get_facecolor()[0]) for dot in figure.axes[0].collections}
    assert dots.keys() == {"trained", *DEMO}
    assert {name for name, face in dots.items() if face == "#ffffff"} == set(CONTROLS)


def test_no_text_of_the_family_leaves_the_figure_or_overlaps_another():
    long = {"ranking": "uniform", "importance": "magnitude", "draw": 1}
    figure = family_tree(*tree(**DEMO, truncated_probe_int8=("channels", "prune_channels", long)), INFO)
    figure.draw_without_rendering()
    texts = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(one.overlaps(other) for one, other in combinations(texts, 2))
    assert all(figure.bbox.x0 <= text.x0 and text.x1 <= figure.bbox.x1 for text in texts)


def test_titles_are_inside_the_figure_even_of_a_tree_with_dense_alone():
    rows, histories = tree(dense=DEMO["dense"])
    histories["dense"]["control"] = True
    for figure in (family_tree(rows, histories, INFO), widths_by_layer(histories, INFO)):
        figure.draw_without_rendering()
        title = next(text for text in figure.findobj(Text) if "edition" in text.get_text())
        assert figure.bbox.x0 <= title.get_window_extent().x0
        assert title.get_window_extent().x1 <= figure.bbox.x1


def test_the_bar_of_a_recipe_is_the_share_of_the_file_of_dense():
    bars = family_tree(*tree(), INFO).axes[0].patches
    assert [bar.get_width() / bars[0].get_width() for bar in bars[:3]] == pytest.approx([1, 1 / 2, 1 / 3], rel=1e-3)


def test_shapes_are_those_with_other_widths_than_dense_each_once():
    _, histories = tree()
    shapes = pruned_shapes(histories)  # truncated kept the width of every layer that it has
    assert [names for names, _ in shapes] == [["thin"], ["channels", "flagship", "scratch"], ["small"]]
    assert shapes[1][1] == {"conv1_1": 8, "conv1_2": 12}


def test_widths_show_the_ranks_of_factorized_layers():
    _, histories = tree(dense=DEMO["dense"], thin=DEMO["thin"])
    figure = widths_by_layer(histories, INFO)
    assert [text.get_text() for text in figure.axes[0].texts] == ["16\n100%", "r 4, 5\n16\n100%", *["32\n100%"] * 2]
    assert "thin: 96 of 96 channels" in texts(figure)
    assert any("ranks" in text for text in texts(figure))
    without = tree()[1] | {"thin": histories["dense"]}
    assert not any("ranks" in text for text in texts(widths_by_layer(without, INFO)))


def test_widths_say_channels_share_and_removed_layers_and_are_hollow_for_controls():
    figure = widths_by_layer(tree()[1], INFO)
    assert len(figure.axes) == 3
    _, first, second = figure.axes
    assert [text.get_text() for text in first.texts] == ["8\n50%", "12\n75%", "removed", "removed"]
    assert "channels, flagship, scratch (control): 20 of 96 channels" in texts(figure)
    filled = [[bar.get_facecolor()[3] for bar in axes.containers[1]] for axes in (first, second)]
    assert filled == [[1, 1], [0, 0, 0, 0]]
    assert [bar.get_height() for bar in first.containers[1]] == [8, 12]


def test_widths_without_a_pruned_recipe_say_so():
    _, histories = tree(dense=DEMO["dense"], truncated=DEMO["truncated"])
    assert any("no recipe has fewer" in text for text in texts(widths_by_layer(histories, INFO)))


def test_weights_of_the_same_histogram_share_a_panel_and_zeros_are_drawn_apart():
    assert [names for names, _, _ in same_histograms(WEIGHTS)] == [["dense", "int8"], ["sparse"]]
    figure = weights_and_codebooks(WEIGHTS, [], INFO)
    bell, sparse = figure.axes[:2]
    assert (bell.get_title("left"), sparse.get_title("left")) == ("dense, int8", "sparse")
    assert [bar.get_height() for bar in bell.patches] == pytest.approx([0.1, 0.7, 0.2])
    assert [bar.get_height() for bar in sparse.patches] == pytest.approx([0.1, 0.05, 0.2, 0, 0.65, 0])
    assert [text.get_text() for text in sparse.texts] == ["65.0% zeros"]
    assert not bell.texts


def test_marks_of_a_codebook_have_the_place_of_the_value_and_the_share_of_the_weights():
    axes = next(axes for axes in weights_and_codebooks(WEIGHTS, BOOKS, INFO).axes if axes.get_title("left") == "shared")
    (marks,) = axes.collections
    places = [[-1, 0], [0, 0], [0.5, 0], [-0.25, 1], [1, 1]]  # value / largest magnitude, line of the layer
    assert np.allclose(marks.get_offsets(), places)
    assert np.allclose(marks.get_array(), [0.1, 0.8, 0.1, 0.1, 0.9])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["conv1_1", "last"]


def test_weights_without_zeros_and_without_a_codebook_say_so(tmp_path):
    figure = weights_and_codebooks([row for row in WEIGHTS if row["recipe"] == "dense"], [], INFO)
    style.save_figure(figure, tmp_path / "one.png")
    assert any("No recipe here has weights that were set to zero" in text for text in texts(figure))
    assert any("no recipe here has layers with only a few distinct values" in text for text in texts(figure))


def test_weights_of_more_recipes_than_fit_into_a_line():
    many = [row | {"recipe": str(i), "count": row["count"] + i} for i in range(6) for row in WEIGHTS[:3]]
    assert len(weights_and_codebooks(many, BOOKS, INFO).axes) == 6 + 2  # one panel each, the codebook, its colors


def test_classes_show_points_with_their_sign_and_a_column_for_all():
    figure = accuracy_by_class(FLIPS, IMAGES, INFO)
    image = figure.axes[0].images[0]
    assert image.get_array().tolist() == [[3] * 11, [-2] * 11]  # points: 3 of 100 images more, 2 fewer
    orange, purple = (image.cmap(image.norm(value)) for value in (-2, 2))
    assert orange[0] > orange[2]
    assert purple[2] > purple[0]
    assert image.norm(0) == pytest.approx(0.5)
    assert {"+3.0", "-2.0", "half (against dense)", "all"} <= set(texts(figure))


def test_a_change_is_beyond_chance_if_the_exact_test_of_its_images_says_so():
    gained, lost = np.array([[0, 0, 5, 5]]), np.array([[0, 9, 6, 15]])  # p: 1, 0.0039, 1, and for all 0.041
    assert beyond_chance(gained, lost).tolist() == [[False, True, False, True]]
    assert beyond_chance(gained, lost - [[0, 2, 0, 2]]).tolist() == [[False, True, False, False]]  # 0.0156, 0.096


def test_numbers_within_chance_are_not_bold():
    figure = accuracy_by_class(FLIPS, IMAGES, INFO)
    weights = {text.get_text(): [] for text in figure.axes[0].texts}
    for text in figure.axes[0].texts:
        weights[text.get_text()].append(text.get_fontweight())
    assert weights == {"+3.0": ["normal"] * 10 + ["bold"], "-2.0": ["normal"] * 10 + ["bold"]}
