"""Split the images of CIFAR-10 into train, validation and test, and measure the training images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from sklearn.model_selection import train_test_split

from src.core.errors import UserError
from src.core.params import Settings
from src.data.cifar10 import TEST_FILE, TRAIN_FILES, read_batch
from src.data.prepared import CHANNELS, CLASSES, DatasetInfo, PerChannel, Split, SplitName

# Images per class that all later stages can use: the stage csi leaves one out and compares it with the others
LEAST: dict[SplitName, int] = {"train": 2, "validation": 1, "test": 2}


class SplitSettings(Settings):
    """The section ``split`` of params.yaml."""

    validation_fraction: float = Field(gt=0, lt=1)


def split(raw: Path, validation_fraction: float, seed: int) -> dict[SplitName, Split]:
    """Return train, validation and test from the six files in ``raw``.

    Validation is ``validation_fraction`` of the training images, the same share of each class; ``seed`` decides
    which. Within each part the images keep their order. Raises `UserError` if a file cannot be read, or if a class
    has fewer images in a part than `LEAST`.
    """
    parts = [read_batch(raw / name) for name in TRAIN_FILES]
    whole = Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
    try:
        train, validation = train_test_split(
            np.arange(len(whole)), test_size=validation_fraction, stratify=whole.labels.numpy(), random_state=seed
        )
    except ValueError as error:
        raise UserError(f"{raw}: cannot hold out {validation_fraction:.0%} of each class: {error}") from None
    splits: dict[SplitName, Split] = {
        "train": whole[torch.from_numpy(np.sort(train))],
        "validation": whole[torch.from_numpy(np.sort(validation))],
        "test": read_batch(raw / TEST_FILE),
    }
    for name, part in splits.items():
        _check_counts(raw, name, part)
    return splits


def _check_counts(raw: Path, name: SplitName, part: Split) -> None:
    counts = torch.bincount(part.labels, minlength=len(CLASSES))
    rarest = int(counts.argmin())
    if (images := int(counts[rarest])) < LEAST[name]:
        needed = ", ".join(f"{least} in {split}" for split, least in LEAST.items())
        raise UserError(f"{raw}: {name} has {images} of class {CLASSES[rarest]}; needed of each class: {needed}")


def described(splits: Mapping[SplitName, Split], name: str, edition: str, classes: Sequence[str]) -> DatasetInfo:
    """Return what is known of the data set that was split into ``splits``.

    Mean and standard deviation are those of each channel over all training pixels, for values in 0..1, computed in
    float64 and rounded to 8 decimals.
    """
    images = splits["train"].images
    channels = images.permute(1, 0, 2, 3).reshape(CHANNELS, -1).double() / 255
    return DatasetInfo(
        name=name,
        edition=edition,
        classes=tuple(classes),
        side=images.shape[-1],
        images={part: len(split) for part, split in splits.items()},
        mean=_rounded(channels.mean(1)),
        std=_rounded(channels.std(1, correction=0)),
    )


def _rounded(values: torch.Tensor) -> PerChannel:
    red, green, blue = (round(value, 8) for value in values.tolist())
    return red, green, blue
