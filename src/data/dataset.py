"""A data set as its files have it: names, and pictures with their labels, in the form of torchvision's data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from src.data.prepared import SplitName


class Part(Protocol):
    """The pictures of a split, of any mode and size, with their labels. torchvision's data sets have this form."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Image.Image, int]: ...


@dataclass(frozen=True)
class Dataset:
    """``source``: what messages call it. ``parts``: train, and validation and test if the set has its own.

    ``classes``: their names, in the order of the labels; None: numbers.
    """

    source: str
    name: str
    classes: Sequence[str] | None
    parts: Mapping[SplitName, Part]


@dataclass(frozen=True)
class Arrays:
    """The images (uint8 [N, height, width] or [N, height, width, 3]) and labels (of whole numbers, [N]) of a split.

    Raises ValueError if types or shapes are others.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8:
            raise ValueError(f"images are {self.images.dtype}; expected uint8")
        if 0 in self.images.shape:
            raise ValueError("there is no image")
        if not (self.images.ndim == 3 or (self.images.ndim == 4 and self.images.shape[3] == 3)):
            raise ValueError(f"images have the shape {self.images.shape}; expected (N, height, width) or the same by 3")
        if self.labels.dtype.kind not in "iu" or self.labels.shape != self.images.shape[:1]:
            found = f"{self.labels.dtype} {self.labels.shape}"
            raise ValueError(f"labels are {found}; expected whole numbers {self.images.shape[:1]}, one for each image")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), int(self.labels[index])
