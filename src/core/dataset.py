"""The prepared arrays: train, validation and test as uint8 tensors, and the training set's statistics."""

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from src.core.errors import UserError

PREPARED = Path("data/prepared")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True)
class Split:
    """images uint8 [N, 3, 32, 32], labels int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> "Split":
        return replace(self, images=self.images[index], labels=self.labels[index])

    def to(self, device: torch.device) -> "Split":
        """The same split with its tensors on ``device``."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True)
class Statistics:
    """Edition of the data (official, sample or custom); channel mean and std in 0..1 of the training part."""

    edition: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def save_split(folder: Path, name: SplitName, split: Split) -> None:
    """Write ``split`` to ``folder/name.npz``: images uint8 [N, 3, 32, 32], labels uint8 [N]."""
    labels = split.labels.numpy().astype(np.uint8)
    np.savez(folder / f"{name}.npz", images=split.images.numpy(), labels=labels)


def load_split(name: SplitName, folder: Path = PREPARED) -> Split:
    """Read ``folder/name.npz``; `UserError` if it is missing or damaged."""
    path = folder / f"{name}.npz"
    try:
        with np.load(path) as arrays:
            return Split(torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"]).long())
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not readable ({error}); run `dvc repro split`") from None


def save_statistics(folder: Path, statistics: Statistics) -> None:
    """Write ``statistics`` to ``folder/statistics.json``."""
    (folder / "statistics.json").write_text(json.dumps(statistics.__dict__, indent=2) + "\n")


def load_statistics(folder: Path = PREPARED) -> Statistics:
    """Read ``folder/statistics.json``; `UserError` if it is missing or damaged."""
    path = folder / "statistics.json"
    try:
        return Statistics(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not readable ({error}); run `dvc repro split`") from None
