"""The six networks of the study: four seeds, one with shuffled labels, one with random weights."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from src.core.device import seed_everything
from src.core.files import atomic
from src.core.signals import interruption
from src.data.prepared import Split, Statistics
from src.network.inference import to_unit
from src.network.vgg import VGG, Plan, load, save
from src.training.checkpoints import Checkpoints
from src.training.loop import Hooks
from src.training.recipe import TrainRecipe
from src.training.run import train
from src.training.tracking import Tracker

SEEDS = (0, 1, 2, 3)
SHUFFLED_SHARE = 0.2
WARM_UP_IMAGES = 10_000  # that give a random network its BatchNorm statistics
Maker = Callable[[], VGG]


@dataclass(frozen=True)
class Setup:
    """What all networks share: plan, training recipe, images, normalization, and the folder of their files."""

    plan: Plan
    recipe: TrainRecipe
    train: Split
    validation: Split
    statistics: Statistics
    folder: Path

    def file(self, name: str) -> Path:
        """Return where the network ``name`` lies."""
        return self.folder / f"{name}.safetensors"


def makers(setup: Setup) -> dict[str, Maker]:
    """Return for each network, by name, a function that loads it, or makes it and writes its file."""
    shuffled = replace(setup, train=with_shuffled_labels(setup.train, SHUFFLED_SHARE, SEEDS[0]))
    made: dict[str, Maker] = {f"seed-{seed}": partial(_trained, setup, f"seed-{seed}", seed) for seed in SEEDS}
    made |= {"shuffled": partial(_trained, shuffled, "shuffled", SEEDS[0]), "random": partial(_random, setup)}
    return {name: partial(_kept, setup.file(name), make) for name, make in made.items()}


def _kept(path: Path, make: Maker) -> VGG:
    if not path.exists():
        network = make()
        with atomic(path) as temporary:
            save(network, temporary, {})
    return load(path).eval()


def _trained(setup: Setup, name: str, seed: int) -> VGG:
    """Train on the CPU; an interrupted training resumes from its checkpoint."""
    checkpoints = Checkpoints(setup.folder / f"{name}-checkpoints")
    with interruption() as interrupted, contextlib.closing(Tracker(f"separation-{name}", len(setup.train))) as reporter:
        hooks = Hooks(reporter, checkpoints, interrupted=interrupted)
        images, statistics, device = setup.train, setup.statistics, torch.device("cpu")
        network, _ = train(setup.plan, setup.recipe, images, setup.validation, statistics, seed, device, hooks)
    checkpoints.clear()
    return network


def _random(setup: Setup) -> VGG:
    """Return a network of PyTorch's random weights, whose BatchNorm has seen training images."""
    seed_everything(SEEDS[0])
    network = VGG(setup.plan, torch.tensor(setup.statistics.mean), torch.tensor(setup.statistics.std))
    return settled(network, setup.train.images[:WARM_UP_IMAGES])


@torch.no_grad()
def settled(network: VGG, images: Tensor, batch_size: int = 250) -> VGG:
    """Return ``network``, changed in place: its BatchNorm has the mean statistics of batches of uint8 ``images``."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the batches
    network.train()
    for batch in images.split(batch_size):
        network(to_unit(batch))
    return network.eval()


def with_shuffled_labels(split: Split, share: float, seed: int) -> Split:
    """Return ``split`` with the labels of ``share`` of its images, drawn by ``seed``, exchanged among these images.

    Some of them get their own class again: a tenth, if there are ten classes of the same size.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(split), generator=generator)[: math.floor(share * len(split))]
    labels = split.labels.clone()
    labels[chosen] = labels[chosen[torch.randperm(len(chosen), generator=generator)]]
    return replace(split, labels=labels)
