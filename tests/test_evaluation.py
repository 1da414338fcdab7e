"""Figures of a split, figures of each class, calibration and mistakes, against counts by hand."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from networks import CLASSES
from sklearn.metrics import balanced_accuracy_score

from src.data.prepared import SPLITS
from src.results.evaluation import (
    Bin,
    Predictions,
    calibration_error,
    confident_mistakes,
    equal_mass,
    per_class,
    predictions,
    reliability,
    split_metrics,
)
from stages import evaluate as stage


def from_confidence(confidence, right):
    """Return predictions of class 1 with the given confidences; ``right`` says which of them are right."""
    confidence, right = np.array(confidence), np.array(right)
    probabilities = np.repeat((1 - confidence)[:, None] / 9, 10, axis=1)
    probabilities[:, 1] = confidence
    labels = np.where(right, 1, 0)
    return Predictions(probabilities, labels, np.ones(len(labels), int), confidence, 0.0)


@pytest.fixture(scope="module")
def random():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (400,), generator=generator)
    logits = torch.randn(400, 10, generator=generator) * 2 + 3 * F.one_hot(labels, 10)
    return logits, labels, predictions(logits, labels)


def test_split_metrics_agree_with_a_count_by_hand(random):
    logits, labels, found = random
    figures = split_metrics(found, bins=15)
    top2 = (logits.topk(2).indices == labels.unsqueeze(1)).any(1).double().mean().item()
    assert figures["accuracy"] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert figures["error_rate"] == pytest.approx(1 - figures["accuracy"])
    assert figures["top2_accuracy"] == pytest.approx(top2)
    assert figures["loss"] == pytest.approx(-np.log(found.probabilities[np.arange(400), labels]).mean())


def test_per_class_figures_agree_with_counts_by_hand(random):
    _, labels, found = random
    labels = labels.numpy()
    for number, row in enumerate(per_class(found)):
        hits = np.sum((labels == number) & (found.predicted == number))
        assert row["images"] == np.sum(labels == number)
        assert row["precision"] == pytest.approx(hits / np.sum(found.predicted == number))
        assert row["recall"] == row["accuracy"] == pytest.approx(hits / row["images"])
        assert row["f1"] == pytest.approx(2 * hits / (row["images"] + np.sum(found.predicted == number)))


@pytest.mark.parametrize("counts", [[50, 9, 3], [7, 0, 5], [2, 3], [4] * 100])
def test_balanced_accuracy_is_scikit_learns(counts):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    logits = torch.randn(len(labels), len(counts), generator=torch.Generator().manual_seed(1))
    found = predictions(logits + F.one_hot(labels, len(counts)), labels)
    with warnings.catch_warnings(action="ignore"):  # of classes that are predicted and never true
        expected = balanced_accuracy_score(found.labels, found.predicted)
    assert split_metrics(found, bins=5)["balanced_accuracy"] == pytest.approx(expected)


def test_top2_accuracy_of_two_classes_is_1():
    labels = torch.tensor([0, 1, 1])
    assert split_metrics(predictions(torch.randn(3, 2), labels), bins=5)["top2_accuracy"] == 1


def test_a_class_without_images_and_predictions_scores_zero():
    rows = per_class(from_confidence([0.9, 0.8], [True, True]))
    assert rows[1]["accuracy"] == 1
    assert rows[7] == {"precision": 0, "recall": 0, "f1": 0, "accuracy": 0, "images": 0}


def test_calibration_error_of_a_case_made_by_hand():
    # two bins: (0, 0.5] holds 0.4 (wrong), 0.5 (right); (0.5, 1] holds 0.9, 0.9 (right), 0.6 (wrong), 1.0 (right)
    found = from_confidence([0.4, 0.5, 0.9, 0.9, 0.6, 1.0], [False, True, True, True, False, True])
    low, high = reliability(found, bins=2)
    assert (low.low, low.high, low.count, high.count) == (0, 0.5, 2, 4)
    assert (low.confidence, low.accuracy) == pytest.approx((0.45, 0.5))
    assert (high.confidence, high.accuracy) == pytest.approx((0.85, 0.75))
    assert calibration_error([low, high]) == pytest.approx(2 / 6 * 0.05 + 4 / 6 * 0.10)


def test_calibration_error_agrees_with_a_loop_over_images_and_bins(random):
    _, labels, found = random
    for bins in (1, 7, 15):
        expected = 0.0
        for b in range(bins):
            inside = [i for i in range(400) if b / bins < found.confidence[i] <= (b + 1) / bins]
            right = sum(found.predicted[i] == labels[i].item() for i in inside)
            expected += abs(right - sum(found.confidence[i] for i in inside)) / 400
        assert calibration_error(reliability(found, bins)) == pytest.approx(expected)


def test_bins_of_equal_mass_against_a_case_made_by_hand():
    # sorted confidences 0.4 (wrong), 0.5 (right) | 0.6 (wrong), 0.9 (right) | 0.9 (wrong)
    found = from_confidence([0.9, 0.4, 0.6, 0.5, 0.9], [True, False, False, True, False])
    bins = equal_mass(found, bins=3)
    assert [one.count for one in bins] == [2, 2, 1]
    assert [(one.low, one.high) for one in bins] == [(0.4, 0.5), (0.6, 0.9), (0.9, 0.9)]
    assert [one.accuracy for one in bins] == [0.5, 0.5, 0]
    assert calibration_error(bins) == pytest.approx((2 * 0.05 + 2 * 0.25 + 0.9) / 5)
    assert len(equal_mass(found, bins=100)) == 5


def test_bins_of_equal_mass_agree_with_pandas(random):
    _, _, found = random
    groups = pd.qcut(pd.Series(found.confidence).rank(method="first"), 8, labels=False)
    right = pd.Series(found.predicted == found.labels)
    for number, one in enumerate(equal_mass(found, 8)):
        assert one.accuracy == pytest.approx(right[groups == number].mean())
        assert one.confidence == pytest.approx(found.confidence[groups == number].mean())


def test_empty_bins_are_left_out():
    assert reliability(from_confidence([0.95, 1.0], [True, False]), 10) == [
        Bin(pytest.approx(0.9), 1.0, pytest.approx(0.975), 0.5, 2)
    ]


def test_mistakes_are_in_order_of_confidence_and_hold_no_right_prediction():
    found = from_confidence([0.3, 0.9, 0.99, 0.6, 0.9], [False, False, True, False, False])
    assert confident_mistakes(found, 3).tolist() == [1, 4, 3]
    assert confident_mistakes(found, 24).tolist() == [1, 4, 3, 0]
    assert confident_mistakes(from_confidence([0.9], [True]), 24).tolist() == []


def test_table_of_confusion_has_one_row_for_each_image_in_order():
    assert stage.confusion_rows(from_confidence([0.9, 0.8], [False, True]), CLASSES) == [
        {"actual": "airplane", "predicted": "automobile"},
        {"actual": "automobile", "predicted": "automobile"},
    ]


def test_table_of_classes_has_one_column_for_each_figure_and_split(random):
    _, _, found = random
    rows = stage.class_rows(dict.fromkeys(SPLITS, found), CLASSES)
    assert [row["class"] for row in rows] == list(CLASSES)
    figures = ("precision", "recall", "f1", "accuracy", "images")
    assert list(rows[0]) == ["class", *(f"{split}_{figure}" for split in SPLITS for figure in figures)]
    assert rows[3]["test_recall"] == per_class(found)[3]["recall"]


def test_table_of_mistakes_names_image_classes_and_confidence():
    found = from_confidence([0.3, 0.9, 0.99], [False, False, True])
    assert stage.mistake_rows(found, 1, CLASSES) == [
        {"index": 1, "actual": "airplane", "predicted": "automobile", "confidence": 0.9}
    ]
