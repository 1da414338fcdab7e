"""Training from new weights, for controls: what is a shape worth without the weights that led to it?"""

from pydantic import Field

from src.compression.candidate import Candidate, Context, Export
from src.core.device import seed_everything
from src.network.vgg import VGG, Plan
from src.training.initialization import initialize
from src.training.loop import Hooks, fit
from src.training.schedule import OptimizerSettings, Phase, TrainRecipe

SMALL_SIDE, FULL_SIDE = 24, 32  # pixels


class FromScratch(OptimizerSettings):
    """The section ``compress.from_scratch`` of params.yaml, with a recipe's changes."""

    warmup_epochs: float = Field(ge=0)
    whiten: bool
    identity_init: bool
    small_images_share: float = Field(ge=0, le=1)

    def recipe(self, plan: Plan, epochs: int) -> TrainRecipe:
        """Return the recipe that trains a network of ``plan`` for ``epochs`` epochs, first with smaller images.

        A warm-up that is longer than the run ends with it. ``whiten`` holds where `can_whiten` says so.
        """
        small = round(self.small_images_share * epochs)
        phases = [Phase(size=SMALL_SIDE, epochs=small)] if small else []
        if small < epochs:
            phases.append(Phase(size=FULL_SIDE, epochs=epochs - small))
        shared = self.model_dump(exclude={"small_images_share"})
        changes = {"warmup_epochs": min(self.warmup_epochs, epochs), "whiten": self.whiten and can_whiten(plan)}
        return TrainRecipe(**shared | changes, phases=phases)


def can_whiten(plan: Plan) -> bool:
    """Return whether the first filters can be fixed patches of images: 3 x 3, and scaled by a BatchNorm behind them.

    After `factorize` the first convolution may be 1 x 1.
    """
    first = plan.convolutions[0]
    return first.kernel == 3 and first.batch_norm


def train_from_new_weights(
    step: str, plan: Plan, candidate: Candidate, context: Context, settings: FromScratch
) -> Candidate:
    """Return the network of ``plan`` trained from new weights, for as many image passes as ``candidate`` has had.

    Passes are rounded to whole epochs, at least one. ``candidate``, the parent, gives normalization, the steps before
    ``step`` and whether the file is folded; image passes and PFLOP are those of this training alone. The seed is not
    that of the root's training, so that a control of the root's shape is another network. Checkpoints as in training.
    """
    seed, device = context.seed + 1, candidate.network.mean.device
    epochs = max(1, round(candidate.image_passes / len(context.train)))
    recipe = settings.recipe(plan, epochs)
    seed_everything(seed)
    network = VGG(plan, candidate.network.mean, candidate.network.std).to(device)
    network = initialize(network, recipe, context.train.images)
    with context.interruption() as interrupted:
        hooks = Hooks(context.reporter, context.checkpoints, interrupted=interrupted)
        trained, history = fit(network, context.train, context.validation, recipe, seed, hooks)
    accuracy = context.validation_accuracy(trained.eval())
    line = f"{step}trained {epochs} epochs from new weights: validation accuracy {accuracy:.4f}"
    return Candidate(
        trained,
        Export(fold=candidate.export.fold),
        steps=(*candidate.steps, line),
        image_passes=epochs * len(context.train),
        pflop=history[-1]["pflop"],
    )
