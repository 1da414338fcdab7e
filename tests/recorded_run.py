"""Three training steps whose gradients are written down; run by torchrun in two processes (test_parallel.py)."""

import sys

import torch
from test_schedule import recipe
from test_training import PLAN, coloured

from src import optimizers, parallel
from src.training import Silent, fit
from src.vgg import VGG

BATCH = 20
RECIPE = recipe(phases=[{"size": 32, "epochs": 1}], batch_size=BATCH, mirror="never", crop_padding=0)


class Recorded(optimizers.Optimizers):
    """Optimisers that keep weights and gradients as they are before each step."""

    steps = []

    def step(self, learning_rate):
        """Note, then step."""
        model = self.model
        self.steps.append(({k: v.clone() for k, v in model.state_dict().items()}, [p.grad.clone() for p in model.parameters()]))
        super().step(learning_rate)


def main(path):
    """Train, and let the first process write what was recorded to ``path``."""
    with parallel.joined(torch.device("cpu")) as device:
        torch.manual_seed(parallel.rank())  # the first process's weights are everybody's
        model = VGG(PLAN).to(device)
        Recorded.model = model
        fit(model, coloured(3 * BATCH), coloured(20, 1), RECIPE, 0, Silent())
        if parallel.rank() == 0:
            torch.save(Recorded.steps, path)


if __name__ == "__main__":
    import src.training

    src.training.Optimizers = Recorded
    src.training.autocast = lambda device, wanted=True: torch.autocast(device.type, enabled=False)
    main(sys.argv[1])
