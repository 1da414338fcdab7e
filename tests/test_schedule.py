"""Learning rate and image size against hand-written values."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from src.compression.fine_tune import FineTune
from src.training.schedule import TrainRecipe, image_size, learning_rate

ROOT = Path(__file__).parent.parent
BASE = {
    "phases": [{"size": 16, "epochs": 2}, {"size": 24, "epochs": 1}, {"size": 32, "epochs": 2}],
    "batch_size": 10,
    "accumulate": 1,
    "mixed_precision": "auto",
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 0.0,
    "lr_start": 0.001,
    "lr_peak": 0.01,
    "warmup_epochs": 1.0,
    "lr_schedule": "linear",
    "step_epochs": 30,
    "label_smoothing": 0.0,
    "dropout": 0.0,
    "normed_filters": False,
    "ema_decay": 0.0,
    "whiten": False,
    "identity_init": False,
    "flip": "random",
    "crop_padding": 4,
    "cutout": 0,
}


def recipe(**changes):
    return TrainRecipe(**BASE | changes)


def test_every_recipe_of_params_yaml_is_sound():
    train = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]
    for settings in train["recipes"].values():
        TrainRecipe(**train["defaults"] | settings)


def test_no_setting_has_a_default_in_the_code():
    assert all(field.is_required() for schema in (TrainRecipe, FineTune) for field in schema.model_fields.values())


def test_sizes():
    assert [image_size(recipe(), epoch) for epoch in range(5)] == [16, 16, 24, 32, 32]
    with pytest.raises(ValueError, match="beyond"):
        image_size(recipe(), 5)


@pytest.mark.parametrize(
    ("lr_schedule", "values"),
    [
        ("linear", {0: 0.001, 0.5: 0.0055, 1: 0.01, 3: 0.005, 5: 0.0}),
        ("cosine", {0: 0.001, 1: 0.01, 2: 0.00853553, 3: 0.005, 5: 0.0}),
        ("step", {0: 0.001, 1: 0.01, 1.99: 0.01, 2: 0.001, 4: 0.0001}),
    ],
)
def test_learning_rate(lr_schedule, values):
    chosen = recipe(lr_schedule=lr_schedule, step_epochs=2)
    for epochs, expected in values.items():
        assert learning_rate(chosen, epochs) == pytest.approx(expected, abs=1e-8)


def test_no_warmup_and_only_warmup():
    assert learning_rate(recipe(warmup_epochs=0.0), 0) == 0.01
    assert learning_rate(recipe(warmup_epochs=5.0), 5) == pytest.approx(0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {"warmup_epochs": 6.0},
        {"batch_size": 10, "accumulate": 3},
        {"batch_size": 10, "accumulate": 10},  # BatchNorm needs two images
        {"phases": []},
        {"phases": [{"size": 64, "epochs": 1}]},
        {"lr_peak": 0.0},
        {"momentum": 1.0},
        {"optimizer": "adam"},
        {"batch_size": 10.5},
    ],
)
def test_refused(changes):
    with pytest.raises(ValidationError):
        recipe(**changes)
