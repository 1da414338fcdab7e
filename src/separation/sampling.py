"""The settings of the stage csi, and the images that it measures on."""

import torch
from pydantic import Field
from torch import Tensor

from src.core.errors import ParamsError
from src.core.params import PARAMS, Settings
from src.data.prepared import CLASSES, Split, SplitName, rank_in_class


class CsiSettings(Settings):
    """The section ``csi`` of params.yaml.

    ``in_sample_train`` and ``in_sample_test``: the number of images in the in-sample protocol, the same of each class.
    ``neighbour_images`` and ``probe_images``: the training images on which SI is measured, and on which the linear
    probes are fitted and the rank is measured (all, if there are fewer).
    """

    in_sample_train: int = Field(ge=2 * len(CLASSES), multiple_of=len(CLASSES))
    in_sample_test: int = Field(ge=2 * len(CLASSES), multiple_of=len(CLASSES))
    neighbour_images: int = Field(ge=2 * len(CLASSES))
    probe_images: int = Field(ge=2 * len(CLASSES))


def balanced(split: Split, name: SplitName, count: int, seed: int) -> Tensor:
    """Return the places of ``count`` images of ``split``, the same number of each class: int64 [count], in order.

    ``seed`` decides which. Raises `ParamsError`, which names the key ``csi.in_sample_<name>``, if a class has too few
    images.
    """
    each = count // len(CLASSES)
    rarest = int(torch.bincount(split.labels, minlength=len(CLASSES)).min())
    if rarest < each:
        raise ParamsError(
            f"{PARAMS}: csi.in_sample_{name}: {count} needs {each} images of each class, and a class of the {name} set "
            f"has only {rarest}; allowed: up to {rarest * len(CLASSES)}"
        )
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    labels = split.labels[order]
    chosen = torch.cat([order[labels == number][:each] for number in range(len(CLASSES))])
    return chosen.sort().values


def drawn(split: Split, count: int, seed: int) -> Tensor:
    """Return the places of ``count`` images of ``split`` (all, if there are fewer), drawn by ``seed``, in order.

    Each class gets the same number of images, as far as it has so many.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    rank = torch.tensor(rank_in_class(split.labels[order].numpy()))
    return order[rank.sort(stable=True).indices[:count]].sort().values
