"""What training costs in floating-point operations, and how many epochs a budget buys."""

from functools import cache

from src.network.cost import FLOPS_PER_MAC_INFERENCE, FLOPS_PER_MAC_TRAINING, macs, parameters
from src.network.vgg import VGG
from src.training.optimizers import flops_of_step
from src.training.recipe import Training, TrainRecipe, image_side

FLOPS_PER_AVERAGED = 3  # to move the average of one parameter


class StepCost:
    """The FLOPs of one step of ``training`` on ``network``.

    Counted are the network forward and backward, the matrix products of the optimizer, the moving average of the
    weights, and the forward pass of ``teacher``, if there is one. Elementwise work is not counted.
    """

    def __init__(self, network: VGG, training: Training, images: int, teacher: VGG | None = None) -> None:
        self.batch_size = min(training.batch_size, images)
        self.steps_per_epoch = images // self.batch_size
        self.full_side = network.plan.side
        average = FLOPS_PER_AVERAGED * parameters(network) if training.ema_decay else 0
        fixed = flops_of_step(network, training) + average

        @cache
        def flops(side: int) -> int:
            image = FLOPS_PER_MAC_TRAINING * macs(network, side)
            if teacher is not None:
                image += FLOPS_PER_MAC_INFERENCE * macs(teacher, side)
            return self.batch_size * image + fixed

        self.flops = flops  # of a step with images of ``side`` x ``side`` pixels

    @property
    def full_epoch(self) -> int:
        """The FLOPs of an epoch with images of the full side."""
        return self.steps_per_epoch * self.flops(self.full_side)

    def whole(self, recipe: TrainRecipe) -> int:
        """Return the FLOPs of all epochs of ``recipe``."""
        sides = (image_side(recipe, epoch, self.full_side) for epoch in range(recipe.epochs))
        return self.steps_per_epoch * sum(map(self.flops, sides))


def epochs_within(flops: float, training: Training, cost: StepCost) -> int:
    """Return the number of epochs, at least one, whose cost is nearest to ``flops``; of two equally near, the smaller.

    ``cost`` is that of a step of ``training``.
    """

    def distance(epochs: int) -> float:
        return abs(cost.whole(training.lasting(epochs)) - flops)

    epochs = max(1, int(flops // cost.full_epoch))  # no epoch costs more than one at the full side
    while distance(epochs + 1) < distance(epochs):
        epochs += 1
    return epochs
