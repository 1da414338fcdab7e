import io

import matplotlib.image
import numpy as np
import pytest
import torch
from PIL import Image

from src.analysis.evaluation import predictions, reliability
from src.core.dataset import CLASSES, SPLITS, Split
from src.core.errors import UserError
from src.pictures import csi, evaluation, style, training


@pytest.fixture
def found():
    generator = torch.Generator().manual_seed(0)
    return predictions(torch.randn(50, 10, generator=generator), torch.arange(10).repeat(5))


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
SCORES = {"train": 0.5, "test": 0.4, "train_in_sample": 0.7, "test_in_sample": 0.8}
ROWS = [
    {"layer": "features.0", "kind": "conv", "block": "1", **SCORES},
    {"layer": "features.1", "kind": "pool", "block": "1", **SCORES},
    {"layer": "avgpool", "kind": "pool", "block": "head", **SCORES},
    {"layer": "classifier.0", "kind": "linear", "block": "head", **SCORES},
]
PUBLISHED = [{"layer": row["layer"], "train_csi": 0.6, "test_csi": 0.55} for row in ROWS]


def all_figures(found, curves):
    accuracies = {name: np.linspace(0, 1, 10) for name in SPLITS}
    images = Split(torch.zeros(8, 3, 32, 32, dtype=torch.uint8), torch.arange(8))
    return {
        "confusion": evaluation.confusion(found, "sample"),
        "per_class": evaluation.per_class(accuracies, "sample"),
        "reliability": evaluation.reliability(reliability(found, 15), "sample"),
        "mistakes": evaluation.mistakes(images, [9] * 8, [0.9] * 8, "sample"),
        "training": training.training(curves, REFERENCE, 0.9, "sample"),
        "csi": csi.separation_by_layer(ROWS, PUBLISHED, "sample"),
    }


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_every_chart_names_its_axes_and_the_edition(found, curves):
    for name, figure in all_figures(found, curves).items():
        assert any("sample edition" in text for text in texts(figure)), name
        charts = [axes for axes in figure.axes if len(axes.get_yticks())]
        assert all(axes.get_ylabel() for axes in charts), name
        assert name == "mistakes" or any(axes.get_xlabel() for axes in charts), name


def test_the_same_figure_gives_the_same_bytes_and_no_version(found, curves, tmp_path):
    for number in (1, 2):
        for name, figure in all_figures(found, curves).items():
            style.save_figure(figure, tmp_path / f"{number}" / f"{name}.png")
    for first in (tmp_path / "1").iterdir():
        content = first.read_bytes()
        assert content == (tmp_path / "2" / first.name).read_bytes()
        assert "Software" not in Image.open(io.BytesIO(content)).info
        assert matplotlib.image.imread(first).std() > 0.01


def test_confusion_shows_shares_by_actual_row():
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.zeros(4, 10)
    logits[[0, 1, 2, 3], [0, 0, 5, 1]] = 9.0
    image = evaluation.confusion(predictions(logits, labels), "sample").axes[0].images[0].get_array()
    assert image[0, 0] == pytest.approx(2 / 3)
    assert image[0, 5] == pytest.approx(1 / 3)
    assert image[1, 1] == 1
    assert image.sum() == pytest.approx(2)


def test_mistakes_name_what_was_said_and_what_is():
    images = Split(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.tensor([3]))
    shown = texts(evaluation.mistakes(images, [5], [0.987], "sample"))
    assert f"{CLASSES[5]} (98.7%)\nis: {CLASSES[3]}" in shown


def test_no_mistake_is_said():
    none = Split(torch.zeros(0, 3, 32, 32, dtype=torch.uint8), torch.zeros(0, dtype=torch.long))
    assert any("No mistake" in text for text in texts(evaluation.mistakes(none, [], [], "sample")))


def test_training_says_when_the_target_was_reached(curves):
    assert any("reached in epoch 3" in text for text in texts(training.training(curves, REFERENCE, 0.9, "sample")))
    assert any("not reached" in text for text in texts(training.training(curves, REFERENCE, 0.95, "sample")))


def test_csi_leaves_out_reference_points_of_another_head():
    axes = csi.separation_by_layer(ROWS, PUBLISHED, "sample").axes[0]
    published = [line for line in axes.lines if "original study" in str(line.get_label())]
    assert [line.get_xdata().tolist() for line in published] == [[0, 1, 2]] * 2


def test_curves_come_back_as_they_were_written(curves, tmp_path):
    for name, values in curves.items():
        path = tmp_path / "plots" / "metrics" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [f"{step}\t{value}" for step, value in enumerate(values, start=1)]
        path.write_text("\n".join([f"step\t{path.stem}", *rows]) + "\n")
    assert training.read_curves(tmp_path) == curves


@pytest.mark.parametrize("content", [None, "", "step\tother\n1\t2\n", "step\tloss\n1\tbad\n"])
def test_a_missing_or_damaged_curve_is_named(content, tmp_path):
    path = tmp_path / "plots" / "metrics" / "train" / "loss.tsv"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"loss\.tsv"):
        training.read_curves(tmp_path)
