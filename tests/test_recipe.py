"""Learning rate, side of the images, cost and budgets against hand-written values."""

from pathlib import Path

import pytest
import yaml
from networks import plan, trained
from pydantic import ValidationError

from src.core.errors import ParamsError
from src.network.cost import macs, parameters
from src.training.budget import StepCost, epochs_within
from src.training.optimizers import orthogonalization_flops
from src.training.recipe import TrainRecipe, chosen_recipe, image_side, learning_rate

ROOT = Path(__file__).parent.parent
BASE = {
    "epochs": 5,
    "phases": [{"side": 0.5, "epochs": 0.4}, {"side": 0.75, "epochs": 0.2}],
    "batch_size": 10,
    "accumulate": 1,
    "mixed_precision": "auto",
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 0.0,
    "lr_start": 0.001,
    "lr_peak": 0.01,
    "warmup": 0.2,
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


def test_no_setting_has_a_default_in_the_code():
    assert all(field.is_required() for field in TrainRecipe.model_fields.values())


def test_sides_follow_the_shares_of_phases_to_whole_epochs():
    assert [image_side(recipe(), epoch, 32) for epoch in range(5)] == [16, 16, 24, 32, 32]
    assert [image_side(recipe(epochs=3), epoch, 32) for epoch in range(3)] == [16, 24, 32]
    small = recipe(phases=[{"side": 0.75, "epochs": 0.25}])
    assert [image_side(small, epoch, 32) for epoch in range(5)] == [24, 32, 32, 32, 32]
    assert image_side(small.lasting(1), 0, 32) == 32
    assert {image_side(recipe(phases=[{"side": 0.5, "epochs": 1.0}]), epoch, 32) for epoch in range(5)} == {16}
    shares = (0.33, 0.56, 0.11)  # added up as floats they are above 1
    assert image_side(recipe(phases=[{"side": 0.5, "epochs": share} for share in shares]), 4, 32) == 16


@pytest.mark.parametrize(("full", "sides"), [(48, [24, 24, 36, 48, 48]), (30, [15, 15, 22, 30, 30]), (16, [8, 8, 12])])
def test_sides_are_shares_of_the_full_side(full, sides):
    assert [image_side(recipe(), epoch, full) for epoch in range(5)][: len(sides)] == sides


def test_no_side_is_below_eight_pixels():
    assert image_side(recipe(phases=[{"side": 0.1, "epochs": 1.0}]), 0, 48) == 8


def test_the_recipes_of_the_root_have_the_sides_and_the_warm_up_of_their_committed_runs():
    train = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]
    for name, small, warm_up in (("fast", 4, 1.0), ("thorough", 6, 1.0)):
        chosen = TrainRecipe(**train["defaults"] | train["recipes"][name])
        sides = [image_side(chosen, epoch, 32) for epoch in range(chosen.epochs)]
        assert sides == [24] * small + [32] * (chosen.epochs - small)
        assert chosen.warmup_epochs == warm_up


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
    assert learning_rate(recipe(warmup=0.0), 0) == 0.01
    assert learning_rate(recipe(warmup=1.0), 5) == pytest.approx(0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {"warmup": 1.1},
        {"batch_size": 10, "accumulate": 3},
        {"batch_size": 10, "accumulate": 10},  # BatchNorm needs two images
        {"epochs": 0},
        {"phases": [{"side": 2.0, "epochs": 0.5}]},
        {"phases": [{"side": 0.75, "epochs": 0.2}, {"side": 0.5, "epochs": 0.2}]},
        {"phases": [{"side": 0.5, "epochs": 0.5}, {"side": 0.75, "epochs": 0.6}]},
        {"lr_peak": 0.0},
        {"momentum": 1.0},
        {"optimizer": "adam"},
        {"batch_size": 10.5},
    ],
)
def test_refused(changes):
    with pytest.raises(ValidationError):
        recipe(**changes)


NETWORK = trained(plan(8, "pool", 16, "pool"))


def test_cost_of_a_step_by_hand():
    chosen = recipe(optimizer="muon", ema_decay=0.9)
    cost = StepCost(NETWORK, chosen, images=105)
    banks = [(8, 27), (16, 72)]
    fixed = sum(orthogonalization_flops(*bank) for bank in banks) + 3 * parameters(NETWORK)
    assert cost.flops(16) == 10 * 6 * macs(NETWORK, 16) + fixed
    assert cost.full_epoch == 10 * (10 * 6 * macs(NETWORK, 32) + fixed)
    taught = StepCost(NETWORK, chosen, 105, teacher=NETWORK)
    assert taught.flops(32) == cost.flops(32) + 10 * 2 * macs(NETWORK, 32)


@pytest.mark.parametrize(("budget", "epochs"), [(0.1, 1), (1, 1), (1.4, 1), (1.6, 2), (7, 7), (7.49, 7)])
def test_a_budget_buys_the_nearest_number_of_whole_epochs(budget, epochs):
    chosen = recipe(phases=[])
    cost = StepCost(NETWORK, chosen, images=100)
    assert epochs_within(budget * cost.full_epoch, chosen, cost) == epochs


def test_small_images_buy_more_epochs():
    chosen = recipe(phases=[{"side": 0.5, "epochs": 0.5}])
    cost = StepCost(NETWORK, chosen, images=100)

    def spent(epochs):
        small = round(epochs / 2)
        return 10 * (small * cost.flops(16) + (epochs - small) * cost.flops(32))

    nearest = min(range(1, 40), key=lambda epochs: abs(spent(epochs) - 10 * cost.full_epoch))
    assert nearest > 14
    assert epochs_within(10 * cost.full_epoch, chosen, cost) == nearest


def test_keys_that_the_message_allows_in_the_defaults_are_allowed_there():
    defaults = {name: value for name, value in BASE.items() if name != "epochs"}
    assert chosen_recipe("a", defaults, {"a": {"epochs": 3}}).epochs == 3
    with pytest.raises(ParamsError, match=r"train\.defaults\.momentun: unknown key; allowed here: ") as caught:
        chosen_recipe("a", defaults | {"momentun": 0.9}, {"a": {"epochs": 3}})
    assert set(str(caught.value).partition("here: ")[2].split(", ")) == set(defaults)
