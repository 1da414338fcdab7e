"""A training run from scratch, with or without DVC."""

import torch

from src.core.device import seed_everything
from src.data.prepared import DatasetInfo, Split
from src.network.vgg import VGG, Plan
from src.training.initialization import initialize
from src.training.loop import Hooks, Row, fit
from src.training.recipe import TrainRecipe


def train(
    plan: Plan,
    recipe: TrainRecipe,
    images: Split,
    validation: Split,
    info: DatasetInfo,
    seed: int,
    device: torch.device,
    hooks: Hooks | None = None,
) -> tuple[VGG, list[Row]]:
    """Train the network of ``plan`` on ``images`` from scratch by ``recipe``; return it and a row for each epoch.

    ``info`` gives the normalization. What ``hooks`` may add, and what is raised, stands at
    `src.training.loop.fit`.
    """
    seed_everything(seed)
    model = VGG(plan, torch.tensor(info.mean), torch.tensor(info.std))
    model = initialize(model, recipe, images.images).to(device)
    return fit(model, images, validation, recipe, seed, hooks)
