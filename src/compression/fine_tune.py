"""Fine-tuning: training on from the weights that a technique left."""

from dataclasses import dataclass

from pydantic import Field, model_validator

from src.compression.candidate import Candidate, Context
from src.network.vgg import VGG
from src.training.loop import AfterStep, Hooks, Objective, fit
from src.training.schedule import OptimizerSettings, Phase, TrainRecipe


class FineTune(OptimizerSettings):
    """The section ``compress.fine_tune`` of params.yaml, with a recipe's changes."""

    epochs: int = Field(ge=1)
    warmup_share: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _same_function(self) -> "FineTune":
        if self.normed_filters:
            raise ValueError("normed_filters must be false: it would change the network before the first step")
        return self

    @property
    def recipe(self) -> TrainRecipe:
        """The training recipe: all epochs at full image size; ``warmup_share`` of them to reach the peak rate."""
        shared = self.model_dump(exclude={"epochs", "warmup_share"})
        return TrainRecipe(
            **shared,
            phases=[Phase(size=32, epochs=self.epochs)],
            warmup_epochs=self.warmup_share * self.epochs,
            whiten=False,
            identity_init=False,
        )


@dataclass(frozen=True)
class FineTuned:
    """A network after fine-tuning, what it cost, and a line that says how it went."""

    network: VGG
    image_passes: int
    pflop: float
    line: str


def fine_tune(
    network: VGG,
    context: Context,
    settings: FineTune,
    objective: Objective | None = None,
    after_step: AfterStep | None = None,
) -> FineTuned:
    """Train ``network`` on, in place, by ``settings``; checkpoints are written and taken up as in training.

    Accuracies before and after are measured in float32 on the validation set. ``objective`` and ``after_step`` as in
    `src.training.loop.Hooks`; ``after_step`` is called once more, with progress 1, on the network that is returned,
    because in a moving average of the weights a mask is blurred.
    """
    before = context.validation_accuracy(network)
    with context.interruption() as interrupted:
        hooks = Hooks(
            context.reporter,
            context.checkpoints,
            objective=objective,
            after_step=after_step,
            interrupted=interrupted,
        )
        tuned, history = fit(network, context.train, context.validation, settings.recipe, context.seed, hooks)
    if after_step:
        after_step(tuned, 1.0)
    after = context.validation_accuracy(tuned.eval())
    line = f"fine-tuned {settings.epochs} epochs: validation accuracy {before:.4f} -> {after:.4f}"
    return FineTuned(tuned, settings.epochs * len(context.train), history[-1]["pflop"], line)


def after_fine_tuning(candidate: Candidate, step: str, tuned: FineTuned, *notes: str, **export: object) -> Candidate:
    """Return ``candidate`` after ``step`` and the fine-tuning ``tuned``."""
    done = candidate.after(f"{step}{tuned.line}", tuned.network, *notes, **export)
    return done.trained(tuned.image_passes, tuned.pflop)
