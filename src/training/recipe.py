"""How to train: one schema for all trainings, and what it says for each moment (learning rate, side of the images)."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from src.core.device import MixedPrecision
from src.core.params import Settings, layered, validate

LEAST_SIDE = 8  # pixels
DEFAULTS = "train.defaults"  # where in params.yaml every training has its defaults


class Phase(Settings):
    """Images of ``side`` times the full side, at least `LEAST_SIDE`, during the share ``epochs`` of all epochs."""

    side: float = Field(gt=0, le=1)
    epochs: float = Field(gt=0, le=1)


class Training(Settings):
    """A training without its length; params.yaml explains each key under ``train.defaults``.

    ``phases`` come first, and the images of all other epochs have the full side. ``whiten`` and ``identity_init`` have
    an effect only in a training from scratch.
    """

    batch_size: int = Field(ge=2)
    accumulate: int = Field(ge=1)
    mixed_precision: MixedPrecision
    phases: list[Phase]
    optimizer: Literal["sgd", "muon"]
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    lr_start: float = Field(gt=0)
    lr_peak: float = Field(gt=0)
    warmup: float = Field(ge=0, le=1)
    lr_schedule: Literal["linear", "cosine", "step"]
    step_epochs: int = Field(ge=1)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout: float = Field(ge=0, lt=1)
    normed_filters: bool
    ema_decay: float = Field(ge=0, lt=1)
    whiten: bool
    identity_init: bool
    flip: Literal["random", "alternate", "never"]
    crop_padding: int = Field(ge=0, le=16)
    cutout: int = Field(ge=0, le=96)

    @model_validator(mode="after")
    def _parts(self) -> "Training":
        if self.batch_size % self.accumulate or self.batch_size < 2 * self.accumulate:
            raise ValueError(
                f"accumulate must divide batch_size, {self.batch_size}, into parts of two images or more "
                f"(found {self.accumulate})"
            )
        if (total := math.fsum(phase.epochs for phase in self.phases)) > 1:
            raise ValueError(
                f"the epochs of phases are shares of all epochs and must add up to at most 1 (found {total:g})"
            )
        sides = [phase.side for phase in self.phases]
        if sides != sorted(sides):
            raise ValueError(f"the sides of phases must not fall (found {sides})")
        return self

    def lasting(self, epochs: int) -> "TrainRecipe":
        """Return this training with its length."""
        return TrainRecipe(**{**dict(self), "epochs": epochs})


class TrainRecipe(Training):
    """A training with its length."""

    epochs: int = Field(ge=1)

    @property
    def warmup_epochs(self) -> float:
        """The length of the warm-up, in epochs, to a hundredth."""
        return round(self.warmup * self.epochs, 2)


def chosen_recipe(name: str, defaults: Mapping[str, Any], recipes: Mapping[str, Any]) -> TrainRecipe:
    """Return the recipe ``name`` of ``recipes``: its changes over ``defaults``; `ParamsError` if a value is wrong."""
    validate(Training, defaults, DEFAULTS)  # a recipe alone has epochs
    return layered(TrainRecipe, {DEFAULTS: defaults, f"train.recipes.{name}": recipes[name]})


def image_side(recipe: TrainRecipe, epoch: int, full_side: int) -> int:
    """Return the side in pixels of the training images in ``epoch`` (from 0) where they have ``full_side`` as a whole.

    A phase ends after a whole number of epochs: the one nearest to its share.
    """
    share = 0.0
    for phase in recipe.phases:
        share += phase.epochs
        if epoch < round(share * recipe.epochs):
            return max(LEAST_SIDE, round(phase.side * full_side))
    return full_side


def learning_rate(recipe: TrainRecipe, epochs: float) -> float:
    """Return the learning rate after ``epochs`` epochs, which may be a fraction.

    It rises in a straight line from ``lr_start`` to ``lr_peak`` during the warm-up. Then ``linear`` and ``cosine``
    fall to zero at the end of the run; ``step`` divides by ten every ``step_epochs`` epochs.
    """
    if epochs < recipe.warmup_epochs:
        return recipe.lr_start + (recipe.lr_peak - recipe.lr_start) * epochs / recipe.warmup_epochs
    if recipe.lr_schedule == "step":
        return recipe.lr_peak * 0.1 ** int(epochs // recipe.step_epochs)
    progress = (epochs - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    if recipe.lr_schedule == "linear":
        return recipe.lr_peak * (1 - progress)
    return recipe.lr_peak * (1 + math.cos(math.pi * progress)) / 2
