"""Split the images into train, validation and test, and measure the training images."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from sklearn.model_selection import train_test_split

from src.core.errors import UserError
from src.core.params import Settings
from src.data.prepared import (
    CHANNELS,
    SPLITS,
    DatasetInfo,
    PerChannel,
    SourceInfo,
    Split,
    SplitName,
    load_source,
    load_split,
)

# Images per class that all later stages can use: the stage csi leaves one out and compares it with the others
LEAST: dict[SplitName, int] = {"train": 2, "validation": 1, "test": 2}


class SplitSettings(Settings):
    """The section ``split`` of params.yaml: the shares that are held out where the data set has no such images."""

    test_fraction: float = Field(gt=0, lt=1)
    validation_fraction: float = Field(gt=0, lt=1)


def split(raw: Path, settings: SplitSettings, seed: int) -> tuple[dict[SplitName, Split], DatasetInfo]:
    """Return train, validation and test from the folder ``raw``, and what is known of them.

    Test and then validation, if ``raw`` has none, is a share of the training images, the same of each class, but at
    least `LEAST` of each; ``seed`` decides which. Within each split the images keep their order. Raises
    `UserError` if a file cannot be read, or if a class has fewer images in a split than `LEAST`.
    """
    source = load_source(raw)
    splits = {name: load_split(name, raw) for name in SPLITS if name == "train" or (raw / f"{name}.npz").exists()}
    shares: dict[SplitName, float] = {"test": settings.test_fraction, "validation": settings.validation_fraction}
    for name, share in shares.items():
        if name not in splits:
            images = max(math.ceil(share * len(splits["train"])), LEAST[name] * len(source.classes))
            splits["train"], splits[name] = _hold_out(raw, splits["train"], images, LEAST[name], seed)
    ordered = {name: splits[name] for name in SPLITS}
    for name, part in ordered.items():
        _check_counts(raw, name, part, source.classes)
    return ordered, described(ordered, source)


def _hold_out(raw: Path, train: Split, images: int, least: int, seed: int) -> tuple[Split, Split]:
    """Return ``train`` without, and only, ``images`` of its images; more, where a small class would have too few."""
    labels = train.labels.numpy()
    try:
        kept, held_out = train_test_split(np.arange(len(train)), test_size=images, stratify=labels, random_state=seed)
    except ValueError as error:
        raise UserError(f"{raw}: cannot hold out {images} of {len(train)} images: {error}") from None
    lacking = np.maximum(least - np.bincount(labels[held_out], minlength=labels.max() + 1), 0)
    more = [kept[labels[kept] == label][:number] for label, number in enumerate(lacking)]
    held_out = np.concatenate([held_out, *more])
    kept = np.setdiff1d(kept, held_out)
    return train[torch.from_numpy(kept)], train[torch.from_numpy(np.sort(held_out))]


def _check_counts(raw: Path, name: SplitName, part: Split, classes: Sequence[str]) -> None:
    counts = torch.bincount(part.labels, minlength=len(classes))
    rarest = int(counts.argmin())
    if (images := int(counts[rarest])) < LEAST[name]:
        needed = ", ".join(f"{least} in {split}" for split, least in LEAST.items())
        raise UserError(f"{raw}: {name} has {images} of class {classes[rarest]}; needed of each class: {needed}")


def described(splits: Mapping[SplitName, Split], source: SourceInfo) -> DatasetInfo:
    """Return what is known of the data set ``source`` that was split into ``splits``.

    Mean and standard deviation are those of each channel over all training pixels, for values in 0..1, computed in
    float64 and rounded to 8 decimals. Raises `UserError` if all pixels of a channel are equal.
    """
    images = splits["train"].images
    counts = torch.stack([torch.bincount(images[:, channel].flatten(), minlength=256) for channel in range(CHANNELS)])
    shares, values = counts.double() / counts.sum(1, keepdim=True), torch.arange(256).double() / 255
    mean = shares @ values
    std = (shares * (values - mean[:, None]) ** 2).sum(1).sqrt()
    if not std.min() > 0:
        raise UserError(f"{source.name}: all training pixels of a channel are equal; nothing can be learned from them")
    return DatasetInfo(
        **source.model_dump(),
        side=images.shape[-1],
        images={part: len(split) for part, split in splits.items()},
        mean=_rounded(mean),
        std=_rounded(std),
    )


def _rounded(values: torch.Tensor) -> PerChannel:
    red, green, blue = (round(value, 8) for value in values.tolist())
    return red, green, blue
