"""Center-based Separation Index (CSI): the share of images that lie nearest to the center of their own class.

The center of a class is the mean of its activations; the distance is the Euclidean distance between flattened
activations (Kalhor et al.; Saffar, Kalhor, Habibnia 2024, doi 10.1038/s41598-024-68172-6). `center_separation` is the
index of an array; `ClassSums`, `SumReceiver` and `CenterReceiver` measure all layers of a network in two passes: one
for the centers, one for the distances.

There are three protocols. HELD-OUT: the centers come from other images. LEAVE-ONE-OUT: each image is scored against
centers without itself. IN-SAMPLE, the protocol of the original study: the scored images also make the centers. Then
each image pulls the center of its own class toward itself, the more so the more dimensions a layer has, and even pure
noise looks separated. In-sample minus leave-one-out on the same images is this bias alone.

Ties: where several centers are equally near, as in a layer that is zero everywhere, an image counts as 1/t if its own
class is one of the t nearest, and as 0 if not. This is the expected value of a random choice among the t classes, so
the order of classes or images has no effect.

Maps are flattened position by position (`checks.flattened`): a center is [positions, channels] in one row, and the
center of average-pooled activations is the average of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from src.separation.checks import Array, as_labels, as_points, averaged, check_counts, flattened
from src.separation.scores import Scores
from src.separation.stream import home_of

ROUNDING = 1e-12  # above the rounding error of float64 squared distances, below the precision of float32 activations
ROWS = 16  # of one class, added up at a time
COLUMNS = 4096  # multiplied at a time: the parts stay in the processor's cache, and short float32 sums round little
EPSILON = torch.finfo(torch.float32).eps


@dataclass
class ClassSums:
    """Sums over the activations of each class in one layer: ``sums`` float64 [K, D], ``counts`` int64 [K], images."""

    sums: Tensor
    counts: Tensor

    @classmethod
    def empty(cls, classes: int, dims: int, device: torch.device | str = "cpu") -> "ClassSums":
        """Return the sums of no images."""
        sums = torch.zeros(classes, dims, dtype=torch.float64, device=device)
        return cls(sums, torch.zeros(classes, dtype=torch.int64, device=device))

    def add(self, points: Tensor, labels: Tensor) -> None:
        """Add ``points`` [N, D] with int64 ``labels`` [N]; the sums are those of float64."""
        counts = torch.bincount(labels, minlength=len(self.counts))
        for number, places in enumerate(labels.argsort(stable=True).split(counts.tolist())):
            for rows in places.split(ROWS):
                self.sums[number] += points.index_select(0, rows).sum(0, dtype=torch.float64)
        self.counts += counts

    def centers(self, name: str = "y") -> "Centers":
        """Return the means. Raises ValueError, which begins with ``name``, if a class is missing, or on NaN or Inf."""
        check_counts(self.counts, 1, name)
        if not bool(self.sums.isfinite().all()):
            raise ValueError(f"{name}: found NaN or Inf among the activations; wanted finite numbers")
        return Centers(self.sums / self.counts.unsqueeze(1), self.counts)


@dataclass(frozen=True)
class Centers:
    """The centers of the classes in one layer, frozen.

    ``means``: float64 [K, D]; ``counts``: int64 [K], the images that made each.
    """

    means: Tensor
    counts: Tensor

    def pooled(self, channels: int) -> "Centers":
        """Return the centers of the activations averaged over space: means [K, ``channels``]."""
        return Centers(self.means.view(len(self.means), -1, channels).mean(1), self.counts)

    @cached_property
    def middle(self) -> Tensor:
        """The mean of the centers, float64 [D]."""
        return self.means.mean(0)

    @cached_property
    def directions(self) -> Tensor:
        """The centers seen from their middle, and the middle: float32 [K + 1, D], for fast products."""
        return torch.cat([self.means - self.middle, self.middle.unsqueeze(0)]).float()

    @cached_property
    def lengths(self) -> Tensor:
        """The lengths of `directions`, float64 [K + 1]."""
        return torch.linalg.vector_norm(self.directions, dim=1).double()

    @cached_property
    def constants(self) -> Tensor:
        """What the squared distance has besides |x|^2 and the products with `directions`: float64 [K]."""
        apart = self.means - self.middle
        return apart.square().sum(1) + 2 * (apart @ self.middle)

    @cached_property
    def squares(self) -> Tensor:
        """The squared lengths of the centers, float64 [K]."""
        return self.means.square().sum(1)


def class_sums(x: Array, y: Array, classes: int | None = None) -> ClassSums:
    """Return the sums over each class of activations ``x`` [N, D] or [N, C, H, W] with integer labels ``y`` [N]."""
    points = as_points(x)
    labels, classes = as_labels(y, len(points), classes)
    sums = ClassSums.empty(classes, points.shape[1], points.device)
    sums.add(points, labels)
    return sums


def center_separation(x: Array, y: Array, centers: Centers | None = None) -> Scores:
    """Return the CSI of activations ``x`` [N, D] or [N, C, H, W] with integer labels ``y`` [N].

    With ``centers`` it is held-out, or in-sample if they are those of ``x``; without them it is leave-one-out. Raises
    ValueError on shapes that do not match, labels out of range, NaN or Inf, or a class with too few images: none, or
    only one where it is left out.
    """
    points, leave_one_out = as_points(x), centers is None
    centers = class_sums(points, y).centers() if centers is None else centers
    labels, classes = as_labels(y, len(points), len(centers.means))
    if points.shape[1] != centers.means.shape[1]:
        raise ValueError(f"x: found {points.shape[1]} values per image; wanted {centers.means.shape[1]}, as in centers")
    check_counts(centers.counts, 1 + leave_one_out)
    return Scores(*credits_of(points, labels, centers, leave_one_out), labels, classes)


def credits_of(points: Tensor, labels: Tensor, centers: Centers, leave_one_out: bool) -> tuple[Tensor, Tensor]:
    """Return credits (float64 [N]) and whether tied (bool [N]) of ``points`` [N, D], as distances in float64 give them.

    Distances of float32 points are first computed in float32. Where these leave a doubt which center is the nearest,
    they are computed again in float64.
    """
    if points.dtype == torch.float64:
        return _exact_credits(points, labels, centers, leave_one_out)
    distances, error = _fast_distances(points, labels, centers, leave_one_out)
    nearest = distances.topk(min(2, distances.shape[1]), largest=False)
    credit = (nearest.indices[:, 0] == labels).double()
    tied = torch.zeros_like(labels, dtype=torch.bool)
    doubt = (~(nearest.values[:, -1] - nearest.values[:, 0] > error)).nonzero().squeeze(1)  # also where it is NaN
    if len(doubt):
        credit[doubt], tied[doubt] = _exact_credits(points[doubt], labels[doubt], centers, leave_one_out)
    return credit, tied


def _exact_credits(points: Tensor, labels: Tensor, centers: Centers, leave_one_out: bool) -> tuple[Tensor, Tensor]:
    distances = squared_distances(points, centers)
    if leave_one_out:
        distances = leave_one_out_distances(distances, labels, centers.counts)
    return credit_and_ties(distances, labels, centers.squares.max())


def _fast_distances(points: Tensor, labels: Tensor, centers: Centers, leave_one_out: bool) -> tuple[Tensor, Tensor]:
    """Return squared distances (float64 [N, K]) by float32 products, and how far two may be wrong against each other.

    The error of a product of two vectors is taken as 2 sqrt(C) + 8 roundings of the product of their lengths, if C
    numbers at a time are summed in float32 and these sums are added up in float64: rounding errors add up as a random
    walk (Higham 2002, 2.8), and the products of the lengths of the parts add up to that of the whole vectors at most.
    """
    roundings = (2 * min(points.shape[1], COLUMNS) ** 0.5 + 8) * EPSILON
    products, squares = _products(points, centers.directions)
    lengths, middle, farthest = squares.sqrt(), centers.lengths[-1], centers.lengths[:-1].max()
    reach = (lengths + middle).square()
    apart = squares - 2 * products[:, -1] + middle.square()
    distances = apart.unsqueeze(1) - 2 * products[:, :-1] + centers.constants
    error = 4 * roundings * lengths * farthest + 4 * ROUNDING * (reach + centers.squares.max())
    if leave_one_out:
        own = (centers.counts[labels] / (centers.counts[labels] - 1)).square() - 1
        distances = leave_one_out_distances(distances, labels, centers.counts)
        error = error + own * roundings * (reach + 4 * lengths * farthest)
    return distances, error


def squared_distances(points: Tensor, centers: Centers) -> Tensor:
    """Return the squared distances (float64 [N, K]) from ``points`` [N, D] to ``centers``, computed in float64.

    Computed as |x|^2 - 2 x.m + |m|^2, which needs no array of the size N x K x D.
    """
    products, squares = _products(points, centers.means)
    return squares.unsqueeze(1) - 2 * products + centers.squares


def _products(points: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return products (float64 [N, K]) of ``points`` [N, D] and ``vectors`` [K, D], and |x|^2 (float64 [N]) of points.

    A few columns at a time are multiplied in the precision of ``vectors``; these parts are added up in float64.
    """
    products = torch.zeros(len(vectors), len(points), dtype=torch.float64, device=points.device)
    squares = products.new_zeros(len(points))
    for start in range(0, points.shape[1], COLUMNS):
        columns = slice(start, start + COLUMNS)
        part = points[:, columns].to(vectors.dtype)
        products += vectors[:, columns] @ part.T
        squares += torch.linalg.vector_norm(part, dim=1).double().square()
    return products.T, squares


def leave_one_out_distances(distances: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Return squared distances to centers that were computed without the image itself.

    ``distances`` [N, K] are those to centers that include the images. If m is the center of a class of n > 1 images
    with x among them, the center without x is m - (x - m) / (n - 1). So the squared distance from x to the center of
    its own class grows exactly by the factor (n / (n - 1))^2.
    """
    own = labels.unsqueeze(1)
    factor = (counts[own].double() / (counts[own] - 1)).square()
    return distances.scatter(1, own, distances.gather(1, own) * factor)


def credit_and_ties(distances: Tensor, labels: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each image its credit (float64 [N]) and whether it is tied (bool [N]).

    t is the number of classes at the smallest distance. The credit is 1/t if the image's own class is one of them,
    else 0; the image is tied if t > 1. ``distances`` [N, K] are squared. Two of them count as equal if rounding
    explains their difference, relative to the smallest distance plus ``scale``, the largest squared length of a center.
    """
    smallest = distances.amin(1, keepdim=True)
    closest = distances <= smallest + ROUNDING * (smallest + scale)
    number = closest.sum(1)
    own = closest.gather(1, labels.unsqueeze(1)).squeeze(1)
    return own / number.double(), number > 1


@dataclass
class SumReceiver:
    """A receiver of `stream` that adds up `ClassSums` of every layer.

    ``labels``: int64 [N] of all images of the stream, between 0 and ``classes`` - 1; ``among``: the places of the
    images that count, by default all. ``sums`` maps the name of each module to its sums.
    """

    labels: Tensor
    classes: int
    among: Tensor | None = None
    sums: dict[str, ClassSums] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels, _ = as_labels(self.labels, len(self.labels), self.classes, "labels")
        self.wanted = _mask(len(self.labels), self.among)

    def __call__(self, name: str, output: Tensor, index: Tensor) -> None:
        """Add the wanted images of a batch."""
        points, index = _part(flattened(output, name), index, self.wanted)
        if len(index):
            if name not in self.sums:
                self.sums[name] = ClassSums.empty(self.classes, points.shape[1], points.device)
            self.sums[name].add(points, self.labels[index].to(points.device))

    def centers(self) -> dict[str, Centers]:
        """Return the centers of each module; ValueError if a class has no image, or a module gave NaN or Inf."""
        return {name: sums.centers(f"labels ({name})") for name, sums in self.sums.items()}


class CenterReceiver:
    """A receiver of `stream` that scores the images of every layer against ``centers``.

    ``labels``: int64 [N] of all images of the stream; ``centers``: by the name of the module; ``leave_one_out``: the
    images are among those of the centers; ``pooled``: activations and centers are averaged over space; ``among``: the
    places of the images that are scored, by default all. Raises ValueError as `center_separation` does.
    """

    def __init__(
        self,
        labels: Tensor,
        centers: Mapping[str, Centers],
        leave_one_out: bool = False,
        pooled: bool = False,
        among: Tensor | None = None,
    ) -> None:
        self.centers, self.leave_one_out, self.pooled = dict(centers), leave_one_out, pooled
        self.classes = len(next(iter(centers.values())).means)
        self.labels, _ = as_labels(labels, len(labels), self.classes, "labels")
        self.wanted = _mask(len(labels), among)
        self.scored: dict[str, tuple[Tensor, Tensor]] = {}
        for own in self.centers.values():
            check_counts(own.counts, 1 + leave_one_out, "centers")

    def __call__(self, name: str, output: Tensor, index: Tensor) -> None:
        """Score the wanted images of a batch."""
        points = averaged(output, name).double() if self.pooled else flattened(output, name)
        points, index = _part(points, index, self.wanted)
        if not len(index):
            return
        if self.pooled and name not in self.scored:
            self.centers[name] = self.centers[name].pooled(points.shape[1])
        credit, tied = credits_of(points, self.labels[index].to(points.device), self.centers[name], self.leave_one_out)
        if name not in self.scored:
            images = len(self.labels)
            self.scored[name] = torch.zeros(images, dtype=torch.float64), torch.zeros(images, dtype=torch.bool)
        self.scored[name][0][index], self.scored[name][1][index] = credit.cpu(), tied.cpu()

    def scores(self) -> dict[str, Scores]:
        """Return the CSI of each module; ValueError if it gave NaN or Inf."""
        labels, wanted = self.labels[self.wanted], self.wanted
        for name, (credit, _) in self.scored.items():
            if not bool(credit.isfinite().all()):
                raise ValueError(f"activations of {name}: found NaN or Inf; wanted finite numbers")
        return {
            name: Scores(credit[wanted], tied[wanted], labels, self.classes)
            for name, (credit, tied) in self.scored.items()
        }


def _part(points: Tensor, index: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of ``points`` whose places ``index`` are ``wanted``, on the device that has float64."""
    points, chosen = points.to(home_of(points.device)), wanted[index]
    return (points, index) if bool(chosen.all()) else (points[chosen.to(points.device)], index[chosen])


def _mask(images: int, among: Tensor | None) -> Tensor:
    """Return bool [``images``]: which are ``among`` those that count."""
    mask = torch.full((images,), among is None)
    if among is not None:
        mask[among] = True
    return mask
