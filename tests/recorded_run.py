"""Three training steps whose gradients are written down; run by torchrun in two processes (test_parallel.py)."""

import sys
from unittest.mock import patch

import torch
from test_recipe import recipe
from test_training import PLAN, colored

from src.core.errors import exit_cleanly
from src.network.vgg import VGG
from src.training import parallel
from src.training.loop import fit
from src.training.optimizers import Optimizers

BATCH = 20
PLAIN = {"flip": "never", "crop_padding": 0, "mixed_precision": False}
RECIPE = recipe(epochs=1, phases=[], batch_size=BATCH, **PLAIN)


def main(path, accumulate):
    """Train, and let the first process write weights and gradients of each step to ``path``."""
    chosen = RECIPE.model_copy(update={"accumulate": int(accumulate)})
    steps = []

    def recorded(self, learning_rate, step=Optimizers.step):
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        steps.append((weights, [parameter.grad.clone() for parameter in model.parameters()]))
        step(self, learning_rate)

    with parallel.joined(torch.device("cpu")) as device:
        torch.manual_seed(parallel.rank())  # the first process's weights are everybody's
        model = VGG(PLAN).to(device)
        with patch.object(Optimizers, "step", recorded):
            fit(model, colored(3 * BATCH), colored(20, 1), chosen, 0)
        if parallel.rank() == 0:
            torch.save(steps, path)


if __name__ == "__main__":
    exit_cleanly(lambda: main(*sys.argv[1:]))
