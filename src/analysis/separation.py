"""Center-based Separation Index (CSI): how well each layer of a network separates the classes.

The CSI of a layer is the share of images whose activations lie nearest to the center of their own class. The center of
a class is the mean of its activations; the distance is the Euclidean distance between flattened activations (Kalhor
et al.; Saffar, Kalhor, Habibnia 2024, doi 10.1038/s41598-024-68172-6). All layers are measured together: one pass over
the images for the centers, one pass for the distances. No activation is kept.

There are two protocols. HELD-OUT: the centers come from the training images; a training image is scored against
centers without itself (leave-one-out), other images against the centers as they are. IN-SAMPLE, the protocol of the
original study: the images that are scored are also those that make the centers. Then each image moves the center of
its own class toward itself, and it moves it more the more dimensions a layer has, so that even pure noise looks
separated.

Ties: in a layer that is zero everywhere, for example, an image has the same distance to several centers. It then counts
as 1/t if its own class is one of the t nearest, and as 0 if not. This is the expected value of a random choice among
the t classes, so the order of classes or images has no effect.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from src.core.arrays import CLASSES, SplitName
from src.core.dataset import Split
from src.core.errors import ParamsError
from src.core.params import PARAMS, Settings
from src.network.inference import to_unit
from src.network.vgg import VGG, MeanPool

BATCH_SIZE = 50  # keeps the activations of the widest layer below 32 MB in float64: malloc reuses blocks of this size
KINDS = {
    nn.Conv2d: "conv",
    nn.BatchNorm2d: "batchnorm",
    nn.ReLU: "relu",
    nn.MaxPool2d: "pool",
    MeanPool: "pool",
    nn.Linear: "linear",
    nn.Dropout: "dropout",
}
ROUNDING = 1e-12  # above the rounding error of float64 squared distances, below the precision of float32 activations
OutputReceiver = Callable[[str, Tensor], None]  # gets the name of a module and its output
ActivationReceiver = Callable[[str, Tensor, Tensor], None]  # gets name, activations [batch, dims] and labels [batch]


class CsiSettings(Settings):
    """The section ``csi`` of params.yaml: the number of images in the in-sample protocol, the same of each class."""

    in_sample_train: int = Field(ge=2 * len(CLASSES), multiple_of=len(CLASSES))
    in_sample_test: int = Field(ge=2 * len(CLASSES), multiple_of=len(CLASSES))


@dataclass(frozen=True)
class Layer:
    """A module of a network and the size of its output.

    ``layer``: its name, as in torchvision; ``kind``: a value of `KINDS`; ``block``: 1 to 5, counted by the pools, or
    head; ``channels`` and ``dims``: channels and values of its output for one image.
    """

    layer: str
    kind: str
    block: str
    channels: int
    dims: int


@dataclass(frozen=True)
class ClassCenters:
    """The centers of the classes in one layer, as sums and counts.

    ``sums``: float64 [classes, dims], the sum of the activations of each class; ``counts``: int64 [classes], images.
    """

    sums: Tensor
    counts: Tensor

    @property
    def means(self) -> Tensor:
        """The centers, float64 [classes, dims]; zero for a class without images."""
        return self.sums / self.counts.clamp(min=1).unsqueeze(1)

    def dead_share(self, channels: int) -> float:
        """Return the share of the layer's ``channels`` whose sums are all zero.

        After a ReLU these are the channels that are zero for every image at every place.
        """
        return float((self.sums.view(len(self.sums), channels, -1) == 0).all(2).all(0).double().mean())


@dataclass(frozen=True)
class Score:
    """The CSI of a layer, and the share of images that have the same distance to several centers."""

    csi: float
    tie_rate: float


def layers(model: VGG) -> list[Layer]:
    """Return the modules of ``model`` in the order in which they run."""
    found: list[Layer] = []

    def add(name: str, output: Tensor) -> None:
        kind = KINDS.get(type(model.get_submodule(name)), "other")
        pools = sum(layer.kind == "pool" for layer in found)
        block = str(pools + 1) if name.startswith("features.") else "head"
        found.append(Layer(name, kind, block, output.shape[1], output[0].numel()))

    with _output_hooks(model, add), torch.no_grad():
        model(torch.zeros(1, 3, 32, 32, device=model.mean.device))
    return found


def class_centers(model: VGG, split: Split, batch_size: int = BATCH_SIZE) -> dict[str, ClassCenters]:
    """Return the class centers of each module of ``model`` on ``split``, by the name of the module."""
    counts = torch.bincount(split.labels, minlength=len(CLASSES))
    sums: dict[str, Tensor] = {}

    def add(name: str, activations: Tensor, labels: Tensor) -> None:
        total = F.one_hot(labels, len(CLASSES)).to(activations).T @ activations
        sums[name] = sums[name].add_(total) if name in sums else total

    _stream_activations(model, split, add, batch_size, "centers")
    return {name: ClassCenters(total, counts.to(total.device)) for name, total in sums.items()}


def separation(
    model: VGG,
    split: Split,
    centers: dict[str, ClassCenters],
    leave_one_out: bool = False,
    batch_size: int = BATCH_SIZE,
) -> dict[str, Score]:
    """Return the CSI of each module of ``model`` on ``split`` with the given ``centers``, by the name of the module.

    Set ``leave_one_out`` if ``split`` holds the images that made the centers: then each image is scored against
    centers without itself.
    """
    means = {name: found.means for name, found in centers.items()}
    totals = {name: torch.zeros(2, dtype=torch.float64, device=mean.device) for name, mean in means.items()}

    def add(name: str, activations: Tensor, labels: Tensor) -> None:
        counts = centers[name].counts
        distances = squared_distances(activations, means[name], counts)
        if leave_one_out:
            distances = leave_one_out_distances(distances, labels, counts)
        credit, tied = credit_and_ties(distances, labels, scale=means[name].square().sum(1).max())
        totals[name] += torch.stack([credit.sum(), tied.sum()])

    _stream_activations(model, split, add, batch_size, "distances")
    return {name: Score(*(total / len(split)).tolist()) for name, total in totals.items()}


def in_sample(model: VGG, split: Split) -> dict[str, Score]:
    """Return the CSI of each module of ``model`` on ``split`` in the in-sample protocol: with its own centers."""
    return separation(model, split, class_centers(model, split))


def squared_distances(activations: Tensor, means: Tensor, counts: Tensor) -> Tensor:
    """Return the squared distances (float64 [N, classes]) from ``activations`` [N, dims] to ``means`` [classes, dims].

    The distance to a class whose number of images in ``counts`` is 0 is infinite. Computed as |x|^2 - 2 x.m + |m|^2,
    which needs no array of the size N x classes x dims.
    """
    lengths = torch.linalg.vector_norm(activations, dim=1, keepdim=True).square()
    distances = lengths - 2 * (activations @ means.T) + means.square().sum(1)
    return distances.masked_fill(counts == 0, math.inf)


def leave_one_out_distances(distances: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Return squared distances to centers that were computed without the image itself.

    ``distances`` [N, classes] are those to centers that include the images. If m is the center of a class of n images
    with x among them, the center without x is m - (x - m) / (n - 1). So the squared distance from x to the center of
    its own class grows exactly by the factor (n / (n - 1))^2. It is infinite if x is the only image of its class.
    """
    own = labels.unsqueeze(1)
    others = (counts[own] - 1).double()
    factor = (counts[own] / others.clamp(min=1)).square()
    left_out = (distances.gather(1, own) * factor).masked_fill(others == 0, math.inf)
    return distances.scatter(1, own, left_out)


def credit_and_ties(distances: Tensor, labels: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each image its credit (float64 [N]) and whether it is tied (bool [N]).

    t is the number of classes at the smallest distance. The credit is 1/t if the image's own class is one of them,
    else 0; the image is tied if t > 1. ``distances`` [N, classes] are squared. Two of them count as equal if rounding
    explains their difference, relative to the smallest distance plus ``scale``, the largest squared length of a center.
    """
    smallest = distances.amin(1, keepdim=True)
    closest = distances <= smallest + ROUNDING * (smallest + scale)
    number = closest.sum(1)
    right = closest.gather(1, labels.unsqueeze(1)).squeeze(1)
    return right / number.double(), number > 1


def balanced(split: Split, name: SplitName, count: int, seed: int) -> Split:
    """Return ``count`` images of ``split``, the same number of each class; ``seed`` decides which.

    The images keep their order. Raises `ParamsError`, which names the key ``csi.in_sample_<name>``, if a class has too
    few images.
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
    return split[chosen.sort().values]


def plateau(values: Sequence[float], images: int) -> int:
    """Return the index of the first of ``values`` that is within one standard error of the highest.

    ``values`` are shares of ``images`` images. After this index CSI rises by no more than chance explains: this is the
    one-standard-error rule of Breiman et al. (1984).
    """
    best = max(values)
    error = math.sqrt(best * (1 - best) / images)
    return next(index for index, value in enumerate(values) if value >= best - error)


def _stream_activations(
    model: VGG, split: Split, receive: ActivationReceiver, batch_size: int, description: str
) -> None:
    """Run ``split`` through ``model`` in full float32 and call ``receive`` for each module and batch.

    The activations that it gets are float64. ``description`` is shown beside the progress bar.
    """
    device = model.mean.device
    home = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
    batches = list(zip(split.images.split(batch_size), split.labels.to(home).split(batch_size), strict=True))
    batch_receiver = _BatchReceiver(receive, home)
    with torch.no_grad(), _full_precision(), _output_hooks(model, batch_receiver):
        for images, labels in tqdm(batches, desc=f"CSI: {description}", unit="batch", leave=False, disable=None):
            batch_receiver.labels = labels
            model(to_unit(images.to(device)))


class _BatchReceiver:
    """Passes on the output of each module as float64 activations, together with the labels of the current batch."""

    def __init__(self, receive: ActivationReceiver, device: torch.device) -> None:
        self.receive, self.device = receive, device
        self.labels = torch.empty(0, dtype=torch.int64)

    def __call__(self, name: str, output: Tensor) -> None:
        self.receive(name, output.to(self.device).flatten(1).double(), self.labels)


def _full_precision() -> AbstractContextManager[None]:
    """Let CUDA compute convolutions in float32, without TF32, and with the same algorithm every time."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


@contextmanager
def _output_hooks(model: VGG, receive: OutputReceiver) -> Iterator[None]:
    """Put ``model`` into evaluation mode and call ``receive`` with the output of each module as it runs.

    ``receive`` must use the output at once: the ReLUs of the network overwrite the output of the module before them.
    """
    training = model.training
    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(partial(_call_receiver, receive, name)) for name, module in leaves]
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()


def _call_receiver(receive: OutputReceiver, name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
    receive(name, output)
