"""Three training steps whose gradients are written down; run by torchrun in two processes (test_parallel.py)."""

import contextlib
import sys
from unittest.mock import patch

import torch
from test_schedule import recipe
from test_training import PLAN, coloured

from src import parallel, training
from src.optimizers import Optimizers
from src.vgg import VGG

BATCH = 20
RECIPE = recipe(phases=[{"size": 32, "epochs": 1}], batch_size=BATCH, mirror="never", crop_padding=0)
FLOAT32 = {"autocast": lambda *_: contextlib.nullcontext()}


def main(path):
    """Train, and let the first process write weights and gradients of each step to ``path``."""
    steps = []

    def recorded(self, learning_rate, step=Optimizers.step):
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        steps.append((weights, [parameter.grad.clone() for parameter in model.parameters()]))
        step(self, learning_rate)

    with parallel.joined(torch.device("cpu")) as device:
        torch.manual_seed(parallel.rank())  # the first process's weights are everybody's
        model = VGG(PLAN).to(device)
        with patch.object(Optimizers, "step", recorded), patch.multiple(training, **FLOAT32):
            training.fit(model, coloured(3 * BATCH), coloured(20, 1), RECIPE, 0, training.Silent())
        if parallel.rank() == 0:
            torch.save(steps, path)


if __name__ == "__main__":
    main(sys.argv[1])
