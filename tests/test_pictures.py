"""The pictures: their labels, their numbers, and that the same figure gives the same bytes."""

import io

import matplotlib.image
import pytest
import torch
from PIL import Image

from src.core.arrays import CLASSES, SPLITS
from src.pictures import csi, evaluation, style, training
from src.pictures.flips import flips_by_class
from src.pictures.positions import positions, separation_by_class


@pytest.fixture
def curves():
    return {
        "train/loss": [2.0, 1.0, 0.5],
        "val/loss": [1.9, 1.1, 0.7],
        "train/accuracy": [0.3, 0.7, 0.9],
        "val/accuracy": [0.35, 0.6, 0.92],
        "learning_rate": [0.001, 0.01, 0.0],
        "image_size": [16, 24, 32],
    }


REFERENCE = {"train_accuracy": [0.35, 0.57], "val_accuracy": [0.46, 0.63]}
SCORES = {
    "train": 0.5,
    "test": 0.4,
    "train_in_sample": 0.7,
    "test_in_sample": 0.8,
    "train_same": 0.45,
    "test_same": 0.3,
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
PUBLISHED = [{"layer": row["layer"], "train_csi": 0.6, "test_csi": 0.55} for row in ROWS]


def all_figures(curves):
    return {
        "confusion": evaluation.confusion(CONFUSION, "sample"),
        "per_class": evaluation.class_accuracy(ACCURACIES, "sample"),
        "reliability": evaluation.reliability_diagram(BINS, "sample"),
        "mistakes": evaluation.mistakes(MISTAKES, torch.zeros(8, 3, 32, 32, dtype=torch.uint8), "sample"),
        "training": training.training(curves, REFERENCE, 0.9, "sample"),
        "csi": csi.separation_by_layer(ROWS, PUBLISHED, "sample"),
        "positions": positions(POSITIONS, "sample"),
        "csi_by_class": separation_by_class(BY_CLASS, "sample"),
        "flips": flips_by_class(FLIPS, "sample"),
    }


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_every_chart_names_its_axes_and_the_edition(curves):
    for name, figure in all_figures(curves).items():
        assert any("sample edition" in text for text in texts(figure)), name
        charts = [axes for axes in figure.axes if len(axes.get_yticks())]
        assert all(axes.get_ylabel() for axes in charts), name
        assert name == "mistakes" or any(axes.get_xlabel() for axes in charts), name


def test_the_same_figure_gives_the_same_bytes_and_no_version(curves, tmp_path):
    for number in (1, 2):
        for name, figure in all_figures(curves).items():
            style.save_figure(figure, tmp_path / f"{number}" / f"{name}.png")
    for first in (tmp_path / "1").iterdir():
        content = first.read_bytes()
        assert content == (tmp_path / "2" / first.name).read_bytes()
        assert "Software" not in Image.open(io.BytesIO(content)).info
        assert matplotlib.image.imread(first).std() > 0.01


def test_confusion_shows_shares_by_actual_row():
    pairs = [(0, 0), (0, 0), (0, 5), (1, 1)]
    rows = [{"actual": CLASSES[actual], "predicted": CLASSES[predicted]} for actual, predicted in pairs]
    image = evaluation.confusion(rows, "sample").axes[0].images[0].get_array()
    assert image[0, 0] == pytest.approx(2 / 3)
    assert image[0, 5] == pytest.approx(1 / 3)
    assert image[1, 1] == 1
    assert image.sum() == pytest.approx(2)


def test_mistakes_name_the_predicted_and_the_actual_class():
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 32, 32)
    figure = evaluation.mistakes([MISTAKES[0] | {"index": 2}], images, "sample")
    assert "dog (98.7%)\nis: cat" in texts(figure)
    assert (figure.axes[0].images[0].get_array() == 2).all()


def test_a_network_without_mistakes_gets_a_picture_that_says_so():
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    assert any("No mistake" in text for text in texts(evaluation.mistakes([], images, "sample")))


def test_reliability_diagram_shows_the_calibration_error():
    error = (3 * 0.05 + 40 * 0.15) / 43
    assert any(f"{error:.4f}" in text for text in texts(evaluation.reliability_diagram(BINS, "sample")))


def test_flips_show_the_difference_and_both_of_its_parts():
    figure = flips_by_class(FLIPS, "sample")
    assert figure.axes[0].images[0].get_array().tolist() == [[3] * 10, [-2] * 10]
    assert "-2\n+3 -5" in texts(figure)


def test_flips_without_a_recipe_give_a_picture_that_says_so():
    assert any("No recipe" in text for text in texts(flips_by_class([], "sample")))


def test_training_says_when_the_target_was_reached(curves):
    assert any("reached in epoch 3" in text for text in texts(training.training(curves, REFERENCE, 0.9, "sample")))
    assert any("not reached" in text for text in texts(training.training(curves, REFERENCE, 0.95, "sample")))


def test_csi_leaves_out_reference_points_of_another_head():
    axes = csi.separation_by_layer(ROWS, PUBLISHED, "sample").axes[0]
    published = [line for line in axes.lines if "original study" in str(line.get_label())]
    assert [line.get_xdata().tolist() for line in published] == [[0, 1, 2]] * 2


def test_csi_splits_the_bias_into_its_two_parts():
    _, train, test = csi.separation_by_layer(ROWS, PUBLISHED, "sample").axes
    for axes, parts in ((train, (25, -5)), (test, (50, -10))):
        assert [line.get_ydata()[0] for line in axes.lines[:2]] == pytest.approx(parts)


def test_positions_mark_the_first_cut_within_the_interval_of_the_best():
    figure = positions(POSITIONS, "sample")
    assert "CSI: first within its interval, conv1_2" in texts(figure)  # 1 point below, interval 1.96 * 0.6
    assert "linear probe: first within its interval, conv1_1" in texts(figure)


def test_csi_by_class_has_a_row_for_each_class():
    image = separation_by_class(BY_CLASS, "sample").axes[0].images[0].get_array()
    assert image[:, 0].tolist() == [i / 10 for i in range(10)]
