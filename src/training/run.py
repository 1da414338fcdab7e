"""A training run from scratch, with or without DVC, and the row of a network that is not trained here."""

import torch
import torch.nn.functional as F

from src.core.device import seed_everything
from src.data.prepared import DatasetInfo, Split
from src.network.inference import accuracy, predict
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


def row_without_training(network: VGG, train: Split, validation: Split, seed: int) -> Row:
    """Return the row of ``network`` before any training, measured in float32 on the device of the images.

    Of ``train`` as many images count as ``validation`` has, drawn by ``seed``.
    """
    row: Row = {}
    for name, split in (("train", train.sample(len(validation), seed)), ("val", validation)):
        logits = predict(network, split.images, description=f"measure {name}")
        row[f"{name}/loss"] = float(F.cross_entropy(logits, split.labels))
        row[f"{name}/accuracy"] = accuracy(logits, split.labels)
    return row | {"learning_rate": 0.0, "image_size": network.plan.side, "pflop": 0.0}
