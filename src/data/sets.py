"""The data sets of torchvision, which downloads them and checks what it gets."""

import contextlib
import inspect
from collections.abc import Callable
from pathlib import Path

from src.core.errors import UserError, one_line
from src.data.dataset import Dataset, Part
from src.data.prepared import SplitName

SPLITS: dict[SplitName, tuple[str, ...]] = {  # what torchvision calls them
    "train": ("train", "trainval"),
    "validation": ("val", "valid"),
    "test": ("test",),
}


def read(name: str, folder: Path) -> Dataset:
    """Return torchvision's data set ``name``, downloaded to ``folder``; `UserError` if that fails."""
    source = f"torchvision/{name}"
    try:
        from torchvision import datasets  # takes seconds

        parts = _parts(getattr(datasets, name), folder)
    except Exception as error:  # a set, its site and its files can raise almost anything
        raise UserError(f"{source}: {one_line(error)}") from error
    return Dataset(source, name, getattr(parts["train"], "classes", None), parts)


def _parts(kind: Callable[..., Part], folder: Path) -> dict[SplitName, Part]:
    """Return the splits that ``kind`` has, which its arguments tell; ValueError if train is not among them."""
    known = inspect.signature(kind).parameters
    options = {"root": folder} | ({"download": True} if "download" in known else {})
    if "train" in known:
        return {"train": kind(train=True, **options), "test": kind(train=False, **options)}
    if "split" not in known:
        return {"train": kind(**options)}
    parts: dict[SplitName, Part] = {}
    for split, names in SPLITS.items():
        for name in names:
            with contextlib.suppress(ValueError):  # it has no split of this name
                parts[split] = kind(split=name, **options)
                break
    if "train" not in parts:
        raise ValueError("has no training images under the name train")
    return parts
