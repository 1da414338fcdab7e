"""A training recipe, and what it says for each moment: learning rate and image size."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from src.core.device import MixedPrecision
from src.core.params import Settings, layered


class Phase(Settings):
    """``epochs`` epochs with images of ``size`` x ``size`` pixels."""

    size: int = Field(ge=8, le=32)
    epochs: int = Field(ge=1)


class OptimizerSettings(Settings):
    """The settings that training and fine-tuning share; params.yaml explains each key under ``train.defaults``."""

    batch_size: int = Field(ge=2)
    accumulate: int = Field(ge=1)
    mixed_precision: MixedPrecision
    optimizer: Literal["sgd", "muon"]
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    lr_start: float = Field(gt=0)
    lr_peak: float = Field(gt=0)
    lr_schedule: Literal["linear", "cosine", "step"]
    step_epochs: int = Field(ge=1)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout: float = Field(ge=0, lt=1)
    normed_filters: bool
    ema_decay: float = Field(ge=0, lt=1)
    flip: Literal["random", "alternate", "never"]
    crop_padding: int = Field(ge=0, le=16)
    cutout: int = Field(ge=0, le=32)

    @model_validator(mode="after")
    def _parts(self) -> "OptimizerSettings":
        if self.batch_size % self.accumulate or self.batch_size < 2 * self.accumulate:
            raise ValueError(
                f"accumulate must divide batch_size, {self.batch_size}, into parts of two images or more "
                f"(found {self.accumulate})"
            )
        return self


class TrainRecipe(OptimizerSettings):
    """One way to train: ``train.defaults`` of params.yaml with the changes of one of ``train.recipes``."""

    phases: list[Phase] = Field(min_length=1)
    warmup_epochs: float = Field(ge=0)
    whiten: bool
    identity_init: bool

    @model_validator(mode="after")
    def _warmup(self) -> "TrainRecipe":
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs must be at most the {self.epochs} epochs of the phases (found {self.warmup_epochs})"
            )
        return self

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)


def chosen_recipe(name: str, defaults: Mapping[str, Any], recipes: Mapping[str, Any]) -> TrainRecipe:
    """Return the recipe ``name`` of ``recipes``: its changes over ``defaults``; `ParamsError` if a value is wrong."""
    return layered(TrainRecipe, {"train.defaults": defaults, f"train.recipes.{name}": recipes[name]})


def image_size(recipe: TrainRecipe, epoch: int) -> int:
    """Return the side in pixels of the training images in ``epoch`` (from 0)."""
    for phase in recipe.phases:
        if epoch < phase.epochs:
            return phase.size
        epoch -= phase.epochs
    raise ValueError(f"epoch {epoch} lies {epoch} beyond the last phase")


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
