"""The curves of a training run: reading them, damaged files, and when the target was reached."""

import pytest

from src.core.errors import UserError
from src.results.curves import CURVES, epoch_of_target, read_curves, target_metrics

RUN = {
    "step": [1, 2, 3],
    "train/loss": [2.0, 1.0, 0.5],
    "val/loss": [1.9, 1.1, 0.7],
    "train/accuracy": [0.3, 0.7, 0.9],
    "val/accuracy": [0.35, 0.6, 0.92],
    "learning_rate": [0.001, 0.01, 0.0],
    "image_size": [16, 24, 32],
    "pflop": [0.1, 0.3, 0.6],
}


def write_curves(folder, **changes):
    for name in CURVES:
        path = folder / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [f"{step}\t{value}" for step, value in enumerate((RUN | changes)[name], start=1)]
        path.write_text("\n".join([f"step\t{path.stem}", *rows]) + "\n")


def test_curves_are_read_as_they_were_written(tmp_path):
    write_curves(tmp_path)
    assert read_curves(tmp_path) == RUN


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"step\tother\n1\t2\n",
        b"step\tloss\n",
        b"step\tloss\n1\tbad\n",
        b"step\tloss\n1\n",
        b"step\tloss\n1\t\xff\xfe\n",
        b"step\tloss\n1\t" + b"1" * 200_000,
        b"step\tloss\n1\t0\x00\n",
    ],
)
def test_a_missing_or_damaged_curve_is_named(content, tmp_path):
    write_curves(tmp_path)
    path = tmp_path / "train" / "loss.tsv"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"loss\.tsv: .*dvc repro train") as caught:
        read_curves(tmp_path)
    assert "\n" not in str(caught.value)


def test_curves_of_different_lengths_are_refused(tmp_path):
    write_curves(tmp_path, pflop=[0.1, 0.3])
    with pytest.raises(UserError, match=r"different numbers of epochs .*image_size 3, pflop 2"):
        read_curves(tmp_path)


def test_target_is_reached_in_the_first_epoch_that_is_at_least_as_good():
    accuracies = {"step": [1, 2, 3, 4], "val/accuracy": [0.2, 0.9, 0.8, 0.95]}
    assert [epoch_of_target(accuracies, target) for target in (0.1, 0.9, 0.91, 0.95, 0.96)] == [1, 2, 4, 4, None]
    assert target_metrics(RUN, 0.6) == {"target_epoch": 2, "target_pflop": 0.3}
    assert target_metrics(RUN, 0.93) == {"target_epoch": None, "target_pflop": None}


def test_weights_from_elsewhere_reach_the_target_in_epoch_0():
    curves = {"step": [0.0], "val/accuracy": [0.9], "pflop": [0.0]}
    assert target_metrics(curves, 0.9) == {"target_epoch": 0, "target_pflop": 0.0}
    assert target_metrics(curves, 0.91) == {"target_epoch": None, "target_pflop": None}
