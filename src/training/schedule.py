"""A training recipe, and what it says for each moment: learning rate and image size."""

import math
from typing import Literal

from pydantic import Field, model_validator

from src.core.params import Settings


class Phase(Settings):
    """``epochs`` epochs with images of ``size`` x ``size`` pixels."""

    size: int = Field(ge=8, le=32)
    epochs: int = Field(ge=1)


class TrainRecipe(Settings):
    """One way to train; an item of ``train.recipes`` in params.yaml, where each key is explained."""

    phases: list[Phase] = Field(min_length=1)
    batch_size: int = Field(ge=2)
    accumulate: int = Field(default=1, ge=1)
    mixed_precision: bool = True
    optimizer: Literal["sgd", "muon"]
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    lr_start: float = Field(gt=0)
    lr_peak: float = Field(gt=0)
    warmup_epochs: float = Field(ge=0)
    anneal: Literal["linear", "cosine", "step"]
    step_epochs: int = Field(default=30, ge=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    whiten: bool = False
    pass_on: bool = False
    mirror: Literal["random", "alternate", "never"] = "random"
    crop_padding: int = Field(default=4, ge=0, le=16)

    @model_validator(mode="after")
    def _consistent(self) -> "TrainRecipe":
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs must be at most the {self.epochs} epochs of the phases (found {self.warmup_epochs})"
            )
        check_parts(self.batch_size, self.accumulate)
        return self

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)


def check_parts(batch_size: int, accumulate: int) -> None:
    """ValueError unless a batch falls into ``accumulate`` equal parts that BatchNorm can take."""
    if batch_size % accumulate or batch_size < 2 * accumulate:
        raise ValueError(
            f"accumulate must divide batch_size, {batch_size}, into parts of two images or more (found {accumulate})"
        )


def image_size(recipe: TrainRecipe, epoch: int) -> int:
    """Side in pixels of the training images in ``epoch`` (from 0)."""
    for phase in recipe.phases:
        if epoch < phase.epochs:
            return phase.size
        epoch -= phase.epochs
    raise ValueError(f"epoch {epoch} lies {epoch} beyond the last phase")


def learning_rate(recipe: TrainRecipe, epochs: float) -> float:
    """Learning rate after ``epochs`` (a fraction too): a straight rise from start to peak, then annealing.

    ``linear`` and ``cosine`` fall to zero at the end; ``step`` divides by ten every ``step_epochs``.
    """
    if epochs < recipe.warmup_epochs:
        return recipe.lr_start + (recipe.lr_peak - recipe.lr_start) * epochs / recipe.warmup_epochs
    if recipe.anneal == "step":
        return recipe.lr_peak * 0.1 ** int(epochs // recipe.step_epochs)
    progress = (epochs - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    if recipe.anneal == "linear":
        return recipe.lr_peak * (1 - progress)
    return recipe.lr_peak * (1 + math.cos(math.pi * progress)) / 2
