"""Center-based Separation Index (CSI): how far the layers of a network have pulled the classes apart.

CSI is the share of images that lie nearest to the centre (mean) of their own class, by Euclidean distance between
flattened activations (Kalhor et al.; Saffar, Kalhor, Habibnia 2024, doi 10.1038/s41598-024-68172-6). All modules are
measured together: one pass over the images for the centres, one for the distances, and no activation is kept.

Two protocols. HONEST: centres of the training images; training images are scored leave-one-out, others as they are.
IN-SAMPLE, as the original study did it: the very images that are scored make the centres. Each image then pulls one
centre towards itself, the more so the more dimensions a layer has, so that pure noise looks separated.

Ties: an image equally near to several centres (as in a layer that is zero everywhere) counts as the expected value of
a fair draw among them, 1/t if its own class is one of the t nearest. The order of classes or images plays no part.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from src.core.dataset import CLASSES, Split, SplitName
from src.core.errors import ParamsError
from src.core.params import PARAMS, Settings
from src.network.inference import to_unit
from src.network.vgg import VGG, MeanPool

BATCH_SIZE = 50  # keeps the widest layer's activations in float64 under 32 MB, which malloc reuses
KINDS = {
    nn.Conv2d: "conv",
    nn.BatchNorm2d: "batchnorm",
    nn.ReLU: "relu",
    nn.MaxPool2d: "pool",
    MeanPool: "pool",
    nn.Linear: "linear",
    nn.Dropout: "dropout",
}
ROUNDING = 1e-12  # well above what float64 loses in squared distances, well below what float32 activations carry
Watcher = Callable[[str, Tensor, Tensor], None]


class CsiSettings(Settings):
    """The section ``csi`` of params.yaml: how many images the in-sample protocol takes, as many of each class."""

    in_sample_train: int = Field(ge=2 * len(CLASSES), multiple_of=len(CLASSES))
    in_sample_test: int = Field(ge=2 * len(CLASSES), multiple_of=len(CLASSES))


@dataclass(frozen=True)
class Layer:
    """A module: its name as in torchvision, its kind, its block (1 to 5 by the pools, or head), its output's size."""

    layer: str
    kind: str
    block: str
    channels: int
    dims: int


@dataclass(frozen=True)
class Centres:
    """What the centres of a layer are made of: sums of activations float64 [classes, dims], images [classes]."""

    sums: Tensor
    counts: Tensor

    @property
    def means(self) -> Tensor:
        """The centres, float64 [classes, dims]; zero for a class without images."""
        return self.sums / self.counts.clamp(min=1).unsqueeze(1)

    def dead_share(self, channels: int) -> float:
        """Share of ``channels`` that are zero for every image at every place (their sums all are)."""
        return float((self.sums.view(len(self.sums), channels, -1) == 0).all(2).all(0).double().mean())


@dataclass(frozen=True)
class Score:
    """CSI of a layer, and the share of images that lie equally near to several centres."""

    csi: float
    tie_rate: float


def layers(model: VGG) -> list[Layer]:
    """The modules of ``model`` in the order in which they run."""
    found: list[Layer] = []

    def note(name: str, output: Tensor) -> None:
        kind = KINDS.get(type(model.get_submodule(name)), "other")
        pools = sum(layer.kind == "pool" for layer in found)
        block = str(pools + 1) if name.startswith("features.") else "head"
        found.append(Layer(name, kind, block, output.shape[1], output[0].numel()))

    with _listening(model, note), torch.no_grad():
        model(torch.zeros(1, 3, 32, 32, device=model.mean.device))
    return found


def centres(model: VGG, split: Split, batch_size: int = BATCH_SIZE) -> dict[str, Centres]:
    """The class centres of each module of ``model`` on ``split``, by the module's name."""
    counts = torch.bincount(split.labels, minlength=len(CLASSES))
    sums: dict[str, Tensor] = {}

    def add(name: str, activations: Tensor, labels: Tensor) -> None:
        total = F.one_hot(labels, len(CLASSES)).to(activations).T @ activations
        sums[name] = sums[name].add_(total) if name in sums else total

    _watch(model, split, add, batch_size, "centres")
    return {name: Centres(total, counts.to(total.device)) for name, total in sums.items()}


def separation(
    model: VGG, split: Split, around: dict[str, Centres], leave_one_out: bool = False, batch_size: int = BATCH_SIZE
) -> dict[str, Score]:
    """CSI of each module of ``model`` on ``split`` with the centres ``around``, by the module's name.

    ``leave_one_out`` is for the images that made the centres: each is then scored against centres without itself.
    """
    means = {name: found.means for name, found in around.items()}
    totals = {name: torch.zeros(2, dtype=torch.float64, device=mean.device) for name, mean in means.items()}

    def add(name: str, activations: Tensor, labels: Tensor) -> None:
        counts = around[name].counts
        distances = squared_distances(activations, means[name], counts)
        if leave_one_out:
            distances = without_oneself(distances, labels, counts)
        credit, tied = nearest(distances, labels, scale=means[name].square().sum(1).max())
        totals[name] += torch.stack([credit.sum(), tied.sum()])

    _watch(model, split, add, batch_size, "distances")
    return {name: Score(*(total / len(split)).tolist()) for name, total in totals.items()}


def in_sample(model: VGG, split: Split) -> dict[str, Score]:
    """CSI of each module of ``model`` on ``split``, scored against its own centres (the original study's protocol)."""
    return separation(model, split, centres(model, split))


def squared_distances(activations: Tensor, means: Tensor, counts: Tensor) -> Tensor:
    """float64 [N, classes] from ``activations`` [N, dims] to ``means`` [classes, dims]; inf to a class of no images.

    |x|^2 - 2 x.m + |m|^2: N x classes x dims multiplications and no array of that size.
    """
    lengths = torch.linalg.vector_norm(activations, dim=1, keepdim=True).square()
    distances = lengths - 2 * (activations @ means.T) + means.square().sum(1)
    return distances.masked_fill(counts == 0, math.inf)


def without_oneself(distances: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """``distances`` [N, classes] of images to centres that they helped to make, as if they had not.

    Without x, the centre m of a class of n images is m - (x - m) / (n - 1): the squared distance grows by the factor
    (n / (n - 1))^2, exactly. A class whose only image is x has no centre left: inf.
    """
    own = labels.unsqueeze(1)
    others = (counts[own] - 1).double()
    factor = (counts[own] / others.clamp(min=1)).square()
    left_out = (distances.gather(1, own) * factor).masked_fill(others == 0, math.inf)
    return distances.scatter(1, own, left_out)


def nearest(distances: Tensor, labels: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """For each image: its credit (1/t if its own class is among the t nearest, else 0), and whether t > 1.

    ``distances`` [N, classes], squared. Differences that rounding explains, measured by the smallest distance and
    ``scale``, the largest squared length of a centre, are none.
    """
    smallest = distances.amin(1, keepdim=True)
    closest = distances <= smallest + ROUNDING * (smallest + scale)
    number = closest.sum(1)
    right = closest.gather(1, labels.unsqueeze(1)).squeeze(1)
    return right / number.double(), number > 1


def balanced(split: Split, name: SplitName, count: int, seed: int) -> Split:
    """``count`` images of ``split``, as many of each class, drawn by ``seed``, in their order.

    Raises `ParamsError`, naming ``csi.in_sample_<name>``, if a class has too few.
    """
    each = count // len(CLASSES)
    rarest = int(torch.bincount(split.labels, minlength=len(CLASSES)).min())
    if rarest < each:
        raise ParamsError(
            f"{PARAMS}: csi.in_sample_{name}: {count} asks for {each} images of each class, and the {name} set has "
            f"only {rarest} of one; allowed: up to {rarest * len(CLASSES)}"
        )
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    labels = split.labels[order]
    chosen = torch.cat([order[labels == number][:each] for number in range(len(CLASSES))])
    return split[chosen.sort().values]


def plateau(values: Sequence[float], images: int) -> int:
    """Index of the first of ``values``, shares of ``images`` images, within one standard error of the highest.

    From there on CSI rises by no more than chance explains: the one-standard-error rule of Breiman et al. (1984).
    """
    best = max(values)
    error = math.sqrt(best * (1 - best) / images)
    return next(index for index, value in enumerate(values) if value >= best - error)


def _watch(model: VGG, split: Split, see: Watcher, batch_size: int, what: str) -> None:
    """Run ``split`` through ``model`` in full float32 and let ``see`` have each module's output as it appears.

    It gets the module's name, float64 activations [batch, dims] and labels [batch].
    """
    device = model.mean.device
    home = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
    labels = split.labels[:0]  # of the batch that is running

    def show(name: str, output: Tensor) -> None:
        see(name, output.to(home).flatten(1).double(), labels)

    batches = list(zip(split.images.split(batch_size), split.labels.to(home).split(batch_size), strict=True))
    with torch.no_grad(), _full_precision(), _listening(model, show):
        for images, labels in tqdm(batches, desc=f"CSI: {what}", unit="batch", leave=False, disable=None):  # noqa: B007
            model(to_unit(images.to(device)))


def _full_precision() -> AbstractContextManager[None]:
    """Convolutions on CUDA in float32, not TF32, and by the same algorithm every time."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


@contextmanager
def _listening(model: VGG, hear: Callable[[str, Tensor], None]) -> Iterator[None]:
    """``model`` in evaluation mode, with ``hear`` told the name and output of each of its modules as it runs.

    The output is to be used at once: the network's ReLUs work in place, on the output of the module before.
    """
    training = model.training
    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: hear(name, output)) for name, module in leaves
    ]
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
