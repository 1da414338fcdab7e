"""The stored images, as NumPy arrays or PyTorch tensors, and what is known of their data set.

`load_arrays` works without PyTorch, which takes seconds to import.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, get_args

import numpy as np
from pydantic import Field, FiniteFloat

from src.core.errors import UserError, one_line
from src.core.params import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
CIFAR10 = "CIFAR-10"  # the name of the data set that the original study used
CHANNELS = 3
SIDES = (16, 96)  # pixels, the least and the greatest
MOST_CLASSES = 256  # labels are stored as uint8
INFO = "dataset_info.json"
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
PerChannel = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Positive = Annotated[FiniteFloat, Field(gt=0)]


@dataclass(frozen=True)
class Split:
    """Images and their classes: ``images`` uint8 [N, 3, side, side], ``labels`` int64 [N]."""

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


class SourceInfo(Settings, strict=False):
    """What is known of a data set before it is split.

    ``name``: CIFAR-10, for example. ``edition``: official or sample; of other data the first eight digits of the
    SHA-256 of images and labels. ``classes``: their names, in the order of the labels.
    """

    name: str = Field(min_length=1)
    edition: str = Field(min_length=1)
    classes: tuple[str, ...] = Field(min_length=2, max_length=MOST_CLASSES)

    @property
    def title(self) -> str:
        """Name and edition, as the headings of tables and pictures have them."""
        return f"{self.name}, {self.edition} edition"


class DatasetInfo(SourceInfo):
    """What is known of a data set that is split.

    ``side`` of the images in pixels. ``images``: how many each split has. ``mean`` and ``std`` of the training pixels:
    one number per channel, for values in 0..1.
    """

    side: int = Field(ge=SIDES[0], le=SIDES[1])
    images: dict[SplitName, int]
    mean: PerChannel
    std: tuple[Positive, Positive, Positive]


Info = TypeVar("Info", bound=SourceInfo)


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """Return for each of ``labels`` [N] how many earlier labels are equal to it (int64 [N])."""
    import pandas as pd

    return pd.Series(labels).groupby(labels).cumcount().to_numpy()


def load_arrays(name: SplitName, folder: Path = PREPARED) -> tuple[np.ndarray, np.ndarray]:
    """Return images (uint8 [N, 3, side, side]) and labels (uint8 [N]) of ``folder/name.npz``.

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
    if images.ndim != 4 or images.shape[1] != CHANNELS or images.shape[2] != images.shape[3]:
        raise ValueError(f"images have the shape {images.shape}; expected (N, 3, side, side)")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels have the shape {labels.shape}; expected {images.shape[:1]}, one for each image")
    if not len(labels):
        raise ValueError("there is no image")


def save_arrays(folder: Path, name: SplitName, images: np.ndarray, labels: np.ndarray) -> None:
    """Write ``images`` (uint8 [N, 3, side, side]) and ``labels`` (uint8 [N]) to ``folder/name.npz``.

    The bytes are those of np.savez from Python 3.11.4 on. Before, its headers differ, and DVC would train again.
    """
    with zipfile.ZipFile(folder / f"{name}.npz", "w") as archive:
        for key, array in (("images", images), ("labels", labels)):
            with archive.open(_Zip64Info(f"{key}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


class _Zip64Info(zipfile.ZipInfo):
    """A member of a ZIP file whose header has its sizes in the ZIP64 field alone, also before Python 3.11.4."""

    def __init__(self, filename: str) -> None:
        super().__init__(filename)
        self.create_version = self.extract_version = zipfile.ZIP64_VERSION
        self.create_system = 3  # Unix, also on Windows

    def FileHeader(self, zip64: bool | None = None) -> bytes:  # noqa: N802 - the name is zipfile's
        header = super().FileHeader(zip64)
        return header[:18] + b"\xff" * 8 + header[26:]


def save_split(folder: Path, name: SplitName, split: Split) -> None:
    """Write ``split`` to ``folder/name.npz``, as `save_arrays` does."""
    save_arrays(folder, name, split.images.numpy(), split.labels.numpy().astype(np.uint8))


def load_split(name: SplitName, folder: Path = PREPARED) -> Split:
    """Return the split that `save_split` wrote to ``folder/name.npz``; `UserError` if it is missing or damaged."""
    import torch

    images, labels = load_arrays(name, folder)
    return Split(torch.from_numpy(images), torch.from_numpy(labels).long())


def save_info(folder: Path, info: SourceInfo) -> None:
    """Write ``info`` to ``folder/dataset_info.json``."""
    (folder / INFO).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_info(folder: Path = PREPARED) -> DatasetInfo:
    """Return what `save_info` wrote to ``folder``; `UserError` if the file is missing or damaged."""
    return _info(folder, DatasetInfo)


def load_source(folder: Path = RAW) -> SourceInfo:
    """Return what `save_info` wrote to ``folder``; `UserError` if the file is missing or damaged."""
    return _info(folder, SourceInfo)


def _info(folder: Path, kind: type[Info]) -> Info:
    path = folder / INFO
    try:
        return kind.model_validate_json(path.read_bytes())
    except Exception as error:  # a damaged file can raise almost anything
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not readable ({one_line(error)}); run `dvc repro split`")
