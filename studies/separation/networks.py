"""The six networks of the study: four seeds, one with shuffled labels, one with random weights."""

import contextlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.optim.swa_utils import update_bn

from src.core.device import seed_everything
from src.core.files import atomic
from src.core.signals import interruption
from src.data.prepared import DatasetInfo, Split
from src.network.inference import to_unit
from src.network.vgg import VGG, Plan, load, save
from src.training.checkpoints import Checkpoints
from src.training.loop import Hooks
from src.training.recipe import TrainRecipe
from src.training.run import train
from src.training.tracking import Tracker

SEEDS = (0, 1, 2, 3)
SHUFFLED_SHARE = 0.2
WARM_UP_IMAGES, WARM_UP_BATCH = 10_000, 250  # that give a random network its BatchNorm statistics
NAMES = (*(f"seed-{seed}" for seed in SEEDS), "shuffled", "random")


@dataclass(frozen=True)
class Setup:
    """What all networks share: plan, training recipe, images, normalization, and the folder of their files."""

    plan: Plan
    recipe: TrainRecipe
    train: Split
    validation: Split
    info: DatasetInfo
    folder: Path

    def file(self, name: str) -> Path:
        """Return where the network ``name`` lies."""
        return self.folder / f"{name}.safetensors"


def network(setup: Setup, name: str) -> VGG:
    """Return the network ``name``, one of `NAMES`, from its file; if there is none, make it and write the file."""
    if not setup.file(name).exists():
        made = _random(setup) if name == "random" else _trained(setup, name)
        with atomic(setup.file(name)) as temporary:
            save(made, temporary, {})
    return load(setup.file(name)).eval()


def _trained(setup: Setup, name: str) -> VGG:
    """Train on the CPU; an interrupted training resumes from its checkpoint."""
    shuffled = name == "shuffled"
    images = with_shuffled_labels(setup.train, SHUFFLED_SHARE, SEEDS[0]) if shuffled else setup.train
    seed = SEEDS[0] if shuffled else int(name.removeprefix("seed-"))
    checkpoints = Checkpoints(setup.folder / f"{name}-checkpoints")
    with interruption() as interrupted, contextlib.closing(Tracker(f"separation-{name}", len(images))) as reporter:
        hooks, device = Hooks(reporter, checkpoints, interrupted=interrupted), torch.device("cpu")
        trained, _ = train(setup.plan, setup.recipe, images, setup.validation, setup.info, seed, device, hooks)
    checkpoints.clear()
    return trained


def _random(setup: Setup) -> VGG:
    """Return a network of PyTorch's random weights; its BatchNorm has the mean statistics of batches from train."""
    seed_everything(SEEDS[0])
    network = VGG(setup.plan, torch.tensor(setup.info.mean), torch.tensor(setup.info.std))
    update_bn(map(to_unit, setup.train.images[:WARM_UP_IMAGES].split(WARM_UP_BATCH)), network)
    return network


def with_shuffled_labels(split: Split, share: float, seed: int) -> Split:
    """Return ``split`` with the labels of ``share`` of its images, drawn by ``seed``, exchanged among these images.

    Some of them get their own class again: a tenth, if there are ten classes of the same size.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(split), generator=generator)[: math.floor(share * len(split))]
    labels = split.labels.clone()
    labels[chosen] = labels[chosen[torch.randperm(len(chosen), generator=generator)]]
    return replace(split, labels=labels)
