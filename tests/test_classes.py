"""Other classes than those of CIFAR-10: three unequal ones and a hundred, through evaluate, csi and pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import INFO, plan, trained
from sklearn.metrics import balanced_accuracy_score

from src.core.files import read_csv, read_json
from src.data.prepared import PREPARED, Split, save_info, save_split
from src.network.record import network_path
from src.network.vgg import save
from src.pictures import evaluation
from src.pictures.classes import accuracy_by_class
from src.pictures.separation import separation_by_class, separation_by_layer
from src.pictures.style import save_figure, short, thinned, worst_and_best
from src.results.comparison import FLIP_COLUMNS
from src.results.curves import CURVES, FOLDER
from stages import csi, draw, evaluate

TOP = Path(__file__).parent.parent
UNEQUAL = {"007": 9, "$a class with a name that does not end": 4, "rain": 2}
HUNDRED = {f"class {number:02}": 2 for number in range(100)}


@pytest.fixture(params=[UNEQUAL, HUNDRED], ids=["unequal", "hundred"])
def data(request, tmp_path, monkeypatch):
    """A folder in which split and train have run; returns what is known of its data."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        Path(name).write_text((TOP / name).read_text())
    counts = torch.tensor([*request.param.values()])
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    PREPARED.mkdir(parents=True)
    for seed, name in enumerate(("train", "validation", "test")):
        noise = torch.randint(0, 64, (len(labels), 3, 32, 32), generator=torch.Generator().manual_seed(seed))
        save_split(PREPARED, name, Split((labels.view(-1, 1, 1, 1) % 180 + noise).to(torch.uint8), labels))
    info = INFO.model_copy(update={"name": "weather", "classes": tuple(request.param), "images": {"test": len(labels)}})
    save_info(PREPARED, info)
    network_path("trained").parent.mkdir(parents=True)
    save(trained(plan(4, "pool", 8).model_copy(update={"classes": len(counts)})), network_path("trained"), {})
    for name in CURVES:
        path = FOLDER / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"step\t{path.stem}\n1\t0.5\n")
    return info


def labels_of(figure):
    return [label.get_text() for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]


def test_evaluate_measures_and_draws_all_classes(data, tmp_path):
    evaluate.main()
    classes, rows, pairs = data.classes, read_csv(evaluate.PER_CLASS), read_csv(evaluate.CONFUSION)
    assert [row["class"] for row in rows] == [*classes]
    assert [row["test_images"] for row in rows] == [sum(row["actual"] == name for row in pairs) for name in classes]
    actual, predicted = ([row[name] for row in pairs] for name in ("actual", "predicted"))
    found = read_json(evaluate.METRICS)["test"]["balanced_accuracy"]
    assert found == pytest.approx(balanced_accuracy_score(actual, predicted), abs=1e-6)
    mistakes = read_csv(evaluate.MISTAKES)
    images = torch.zeros(len(pairs), 3, 32, 32, dtype=torch.uint8)
    figures = [
        evaluation.confusion(pairs, data),
        evaluation.class_accuracy(rows, data),
        evaluation.mistakes(mistakes, images, data),
    ]
    for number, figure in enumerate(figures):
        save_figure(figure, tmp_path / f"{number}.png")
    assert figures[0].axes[0].images[0].get_array().shape == (len(classes), len(classes))
    assert all(len(label) <= 21 for label in labels_of(figures[0]))
    assert len(labels_of(figures[0])) < 80


def test_csi_separates_and_draws_all_classes(data, tmp_path, capsys):
    csi.main()
    least = min(np.bincount(np.load(PREPARED / "train.npz")["labels"]))
    assert f"{least * len(data.classes)} images, not 3000: a class has only {least}" in capsys.readouterr().out
    rows, layers = read_csv(csi.BY_CLASS, "layer", *data.classes), read_csv(csi.TABLE)
    assert len(rows) == len(layers)
    figure = separation_by_class(rows, data)
    grid = np.array(figure.axes[0].images[0].get_array())
    assert grid.shape == (len(data.classes), len(rows))
    assert sorted(grid[:, -1]) == sorted(rows[-1][name] for name in data.classes)
    save_figure(figure, tmp_path / "classes.png")
    curves = separation_by_layer(layers, draw.on_cifar10(draw.REFERENCE_CSI, data, "layer"), data)
    save_figure(curves, tmp_path / "layers.png")
    told = [text.get_text() for text in curves.legends[0].get_texts()]
    assert f"chance (1/{len(data.classes)})" in told
    assert not any("original study" in text for text in told)


def test_changes_of_many_classes_are_those_of_the_worst_and_the_best(data, tmp_path):
    rows = [
        dict(zip(FLIP_COLUMNS, ("slim", "dense", name, 0, number), strict=True))
        for number, name in enumerate(data.classes)
    ]
    figure = accuracy_by_class(rows, dict.fromkeys(data.classes, 200), data)
    save_figure(figure, tmp_path / "classes.png")
    shown = len(data.classes) if len(data.classes) <= 20 else 20
    assert figure.axes[0].images[0].get_array().shape == (1, shown + 1)
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert (names[0], names[-2:]) == (short(data.classes[0]), [short(data.classes[-1]), "all"])


def test_confusions_of_many_classes_are_named_if_there_are_any():
    info = INFO.model_copy(update={"classes": tuple(HUNDRED)})
    right = [{"actual": name, "predicted": name} for name in HUNDRED for _ in range(2)]
    assert "Largest" not in evaluation.confusion(right, info).axes[0].get_title()
    right[0] = {"actual": "class 00", "predicted": "class 07"}
    assert "Largest: class 00 as class 07 (50%)" in evaluation.confusion(right, info).axes[0].get_title()


def test_labels_thin_out_and_keep_both_ends():
    assert thinned(["a", "b", "c"]) == ([0, 1, 2], ["a", "b", "c"])
    places, labels = thinned([str(number) for number in range(100)])
    assert (len(places), places[0], places[-1], labels[-1]) == (25, 0, 99, "99")


def test_the_worst_come_first_and_the_best_last():
    values = np.random.default_rng(0).permutation(100)
    assert values[worst_and_best(values)].tolist() == [*range(10), *range(90, 100)]
    assert worst_and_best(values[:20]) == [*range(20)]
