"""The prepared images, as NumPy arrays or PyTorch tensors, and the statistics of the training pixels.

`load_arrays` works without PyTorch, which takes seconds to import.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from src.core.errors import UserError, one_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PREPARED = Path("data/prepared")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGE_SHAPE = (3, 32, 32)
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True)
class Split:
    """Images and their classes: ``images`` uint8 [N, 3, 32, 32], ``labels`` int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> Split:
        return replace(self, images=self.images[index], labels=self.labels[index])

    def to(self, device: torch.device) -> Split:
        """Return the same split with its tensors on ``device``."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def sample(self, images: int, seed: int) -> Split:
        """Return ``images`` of these (all, if there are fewer), drawn by ``seed``."""
        import torch

        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self[order[:images].to(self.labels.device)]


@dataclass(frozen=True)
class Statistics:
    """The edition of the data (official, sample or custom), and mean and standard deviation of the training pixels.

    ``mean`` and ``std`` have one number for each channel, for pixel values in 0..1.
    """

    edition: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """Return for each of ``labels`` [N] how many earlier labels are equal to it (int64 [N])."""
    import pandas as pd

    return pd.Series(labels).groupby(labels).cumcount().to_numpy()


def load_arrays(name: SplitName, folder: Path = PREPARED) -> tuple[np.ndarray, np.ndarray]:
    """Return images (uint8 [N, 3, 32, 32]) and labels (uint8 [N]) of ``folder/name.npz``.

    Raises `UserError` if the file is missing or damaged.
    """
    path = folder / f"{name}.npz"
    try:
        with np.load(path) as arrays:
            if damaged := arrays.zip.testzip():  # NumPy does not read far enough to meet every checksum
                raise ValueError(f"{damaged} has a wrong checksum")
            images, labels = arrays["images"], arrays["labels"]
        _check_split(images, labels)
    except Exception as error:  # a damaged file can raise almost anything
        raise _unreadable(path, error) from None
    return images, labels


def _check_split(images: np.ndarray, labels: np.ndarray) -> None:
    """Raise ValueError unless dtypes, shapes and labels are those of a split with at least one image."""
    for name, array in (("images", images), ("labels", labels)):
        if array.dtype != np.uint8:
            raise ValueError(f"{name} are {array.dtype}; expected uint8")
    if images.shape[1:] != IMAGE_SHAPE:
        raise ValueError(f"images have the shape {images.shape}; expected (N, 3, 32, 32)")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels have the shape {labels.shape}; expected {images.shape[:1]}, one for each image")
    if not len(labels):
        raise ValueError("there is no image")
    if labels.max() >= len(CLASSES):
        raise ValueError(f"label {labels.max()} found; labels are 0 to {len(CLASSES) - 1}")


def save_split(folder: Path, name: SplitName, split: Split) -> None:
    """Write ``split`` to ``folder/name.npz``: images uint8 [N, 3, 32, 32], labels uint8 [N]."""
    labels = split.labels.numpy().astype(np.uint8)
    np.savez(folder / f"{name}.npz", images=split.images.numpy(), labels=labels)


def load_split(name: SplitName, folder: Path = PREPARED) -> Split:
    """Return the split that `save_split` wrote to ``folder/name.npz``; `UserError` if it is missing or damaged."""
    import torch

    images, labels = load_arrays(name, folder)
    return Split(torch.from_numpy(images), torch.from_numpy(labels).long())


def save_statistics(folder: Path, statistics: Statistics) -> None:
    """Write ``statistics`` to ``folder/statistics.json``."""
    (folder / "statistics.json").write_text(json.dumps(asdict(statistics), indent=2) + "\n", encoding="utf-8")


def load_statistics(folder: Path = PREPARED) -> Statistics:
    """Return what `save_statistics` wrote to ``folder``; `UserError` if the file is missing or damaged."""
    path = folder / "statistics.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.keys() != Statistics.__annotations__.keys():
            raise ValueError(f"expected the keys {', '.join(Statistics.__annotations__)}")
        _check_statistics(**values)
        return Statistics(values["edition"], tuple(values["mean"]), tuple(values["std"]))
    except Exception as error:  # a damaged file can raise almost anything
        raise _unreadable(path, error) from None


def _check_statistics(edition: Any, mean: Sequence[Any], std: Sequence[Any]) -> None:
    """Raise ValueError unless these are a name, three numbers, and three numbers above 0."""
    if not isinstance(edition, str) or not edition:
        raise ValueError(f"edition is {edition!r}; expected a name")
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != IMAGE_SHAPE[0] or not all(isinstance(x, float) and math.isfinite(x) for x in values):
            raise ValueError(f"{name} is {values!r}; expected {IMAGE_SHAPE[0]} finite numbers")
    if min(std) <= 0:
        raise ValueError(f"std is {std!r}; expected numbers above 0")


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not readable ({one_line(error)}); run `dvc repro split`")
