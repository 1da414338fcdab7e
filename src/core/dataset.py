"""The prepared images as PyTorch tensors."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.core.arrays import PREPARED, SplitName, load_arrays


@dataclass(frozen=True)
class Split:
    """Images and their classes: ``images`` uint8 [N, 3, 32, 32], ``labels`` int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> "Split":
        return replace(self, images=self.images[index], labels=self.labels[index])

    def to(self, device: torch.device) -> "Split":
        """Return the same split with its tensors on ``device``."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


def save_split(folder: Path, name: SplitName, split: Split) -> None:
    """Write ``split`` to ``folder/name.npz``: images uint8 [N, 3, 32, 32], labels uint8 [N]."""
    labels = split.labels.numpy().astype(np.uint8)
    np.savez(folder / f"{name}.npz", images=split.images.numpy(), labels=labels)


def load_split(name: SplitName, folder: Path = PREPARED) -> Split:
    """Return the split that `save_split` wrote to ``folder/name.npz``; `UserError` if it is missing or damaged."""
    images, labels = load_arrays(name, folder)
    return Split(torch.from_numpy(images), torch.from_numpy(labels).long())
