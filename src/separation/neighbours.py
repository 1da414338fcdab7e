"""Separation Index (SI): how often the nearest neighbour of an image is of its own class.

SI is the leave-one-out accuracy of the nearest neighbour (Kalhor et al., arXiv:2012.13717; it is Thornton's geometrical
separability index, and 1 - N3 of Ho & Basu).

Exact, without the n x n matrix: distances come from float32 products in blocks of rows and of features, of which the
nearest few per row are kept. Where rounding leaves a doubt which is the nearest, these few are ranked again by float64
differences; where all of the few are in doubt, the row is compared with all images in float64.

Ties: where several neighbours are equally near, the credit is the expected value of a random choice among them, so the
order of the images has no effect.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from src.separation.centers import EPSILON, ROUNDING
from src.separation.checks import Array, as_labels, as_points, flattened
from src.separation.scores import Scores
from src.separation.stream import home_of, stream

ROWS, FEATURES = 1000, 8192  # of a block of products
KEPT = 5  # nearest neighbours per row
FEW_ROWS = 50  # compared again at a time


def separation_index(x: Array, y: Array) -> Scores:
    """Return the SI of activations ``x`` [N, D] or [N, C, H, W] with integer labels ``y`` [N].

    Raises ValueError on shapes that do not match, labels that are no class, NaN or Inf, or a single image.
    """
    points = as_points(x)
    labels, classes = as_labels(y, len(points))
    if len(points) == 1:
        raise ValueError("x: found a single image; wanted at least two")
    labels = labels.to(points.device)
    credit, tied = _credits(_Search(points), labels)
    return Scores(credit, tied, labels, classes)


@dataclass
class _Search:
    """A search for the nearest neighbours of each of ``points`` [N, D] among the others."""

    points: Tensor

    @cached_property
    def lengths(self) -> Tensor:
        """Squared lengths, float32 [N]."""
        return torch.linalg.vector_norm(self.points, dim=1).double().square().float()

    @cached_property
    def middle(self) -> Tensor:
        """The mean of the points, float64 [D]."""
        return sum(part.sum(0, dtype=torch.float64) for part in self.points.split(FEW_ROWS)) / len(self.points)

    @cached_property
    def tie(self) -> float:
        """How far two distances may be apart that count as equal."""
        middle = self.middle.to(self.points.dtype)
        return ROUNDING * max(float((part - middle).square().sum(1).max()) for part in self.points.split(FEW_ROWS))

    @cached_property
    def slack(self) -> float:
        """How wrong a float32 distance may be, as a share of the two squared lengths; see `centers._fast_distances`."""
        blocks = math.ceil(self.points.shape[1] / FEATURES)
        return (2 * min(self.points.shape[1], FEATURES) ** 0.5 + 8 + blocks) * EPSILON

    def upper(self, lower: Tensor, places: Tensor) -> Tensor:
        """Return the largest squared distances that belong to the smallest ones ``lower`` [N, kept]."""
        return lower + 2 * self.slack * (self.lengths.unsqueeze(1) + self.lengths[places])

    def candidates(self) -> tuple[Tensor, Tensor]:
        """Return the nearest neighbours by float32 products, and their places: [N, kept], ascending.

        The distances are the smallest squared ones that rounding allows.
        """
        images = len(self.points)
        values = torch.full((images, min(KEPT, images - 1)), math.inf, device=self.points.device)
        places = torch.zeros_like(values, dtype=torch.int64)
        for rows in _blocks(images):
            for columns in _blocks(images, rows.start):  # the blocks before are mirror images of these
                distances = self._block(rows, columns)
                _keep_nearest(values[rows], places[rows], distances, columns.start)
                if columns.start > rows.start:
                    _keep_nearest(values[columns], places[columns], distances.T, rows.start)
        return values, places

    def _block(self, rows: slice, columns: slice) -> Tensor:
        """Return the smallest squared distances of a block that rounding allows, by float32 products."""
        first, second = self.points[rows], self.points[columns]
        result = (1 - self.slack) * (self.lengths[rows].unsqueeze(1) + self.lengths[columns])
        for start in range(0, first.shape[1], FEATURES):
            part = slice(start, start + FEATURES)
            result.addmm_(first[:, part].float(), second[:, part].float().T, alpha=-2)
        if rows.start == columns.start:
            result.fill_diagonal_(math.inf)
        return result

    def ranked_again(self, row: int, places: Tensor) -> Tensor:
        """Return the squared distances (float64 [n]) of point ``row`` to those at ``places``, by differences."""
        return (self.points[places].double() - self.points[row].double()).square().sum(1)

    def all_distances(self, rows: Tensor) -> Tensor:
        """Return the squared distances (float64 [n, N]) of points ``rows`` to all points; infinite to themselves."""
        first = self.points[rows].double() - self.middle
        result = first.square().sum(1, keepdim=True).expand(-1, len(self.points)).clone()
        for columns in _blocks(len(self.points)):
            second = self.points[columns].double() - self.middle
            result[:, columns] += second.square().sum(1) - 2 * first @ second.T
        return result.scatter(1, rows.unsqueeze(1), math.inf)


def _credits(search: _Search, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return credits (float64 [N]) and whether tied (bool [N])."""
    values, places = search.candidates()
    credit = (labels[places[:, 0]] == labels).double()
    tied = torch.zeros_like(labels, dtype=torch.bool)
    reach = search.upper(values, places).amin(1, keepdim=True) + 2 * search.tie
    doubtful = (values <= reach).sum(1)  # how many may be the nearest
    few, all_kept = doubtful > 1, doubtful == values.shape[1]
    for row in (few & ~all_kept).nonzero().squeeze(1).tolist():
        near = places[row, : doubtful[row]]
        credit[row], tied[row] = _expected(search.ranked_again(row, near), labels[near] == labels[row], search.tie)
    for rows in all_kept.nonzero().squeeze(1).split(FEW_ROWS):
        same = labels == labels[rows].unsqueeze(1)
        credit[rows], tied[rows] = _expected(search.all_distances(rows), same, search.tie)
    return credit, tied


def _expected(distances: Tensor, same: Tensor, tie: float) -> tuple[Tensor, Tensor]:
    """Return the expected credit of a random choice among the equally near, and whether there was a choice.

    ``distances`` [..., n] are squared; ``same``: whether the neighbour is of the same class. The credit is the share of
    the same class among the nearest.
    """
    nearest = distances <= distances.amin(-1, keepdim=True) * (1 + ROUNDING) + tie
    number = nearest.sum(-1)
    return (nearest & same).sum(-1) / number.double(), number > 1


def _keep_nearest(values: Tensor, places: Tensor, distances: Tensor, start: int) -> None:
    """Update the nearest ``values`` [n, kept] and ``places`` with ``distances`` [n, m] to points from ``start`` on."""
    kept = values.shape[1]
    best = distances.topk(min(kept, distances.shape[1]), largest=False)
    merged = torch.cat([values, best.values], 1).topk(kept, largest=False)
    places.copy_(torch.cat([places, best.indices + start], 1).gather(1, merged.indices))
    values.copy_(merged.values)


def _blocks(rows: int, first: int = 0) -> Iterator[slice]:
    for start in range(first, rows, ROWS):
        yield slice(start, min(start + ROWS, rows))


class _Keeper:
    """A receiver of `stream` that keeps the flattened activations of ``modules``, for ``images`` images."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.points: dict[str, Tensor] = {}

    def __call__(self, name: str, output: Tensor, index: Tensor) -> None:
        points = flattened(output, name)
        if name not in self.points:
            self.points[name] = points.new_empty(self.images, points.shape[1], device=home_of(points.device))
        self.points[name][index[0] : index[-1] + 1] = points


def layer_neighbours(model: nn.Module, images: Tensor, y: Array, modules: Collection[str]) -> dict[str, Scores]:
    """Return the SI of each of ``modules`` of ``model`` on ``images`` with integer labels ``y`` [N].

    The activations of a whole layer are in memory: 2.6 GB for 10,000 images of 65,536 values. Modules share a forward
    pass, which stops after the last of them, as long as together they are no larger than the largest one.
    """
    scores: dict[str, Scores] = {}
    for group in _groups(_sizes(model, images[:1], modules)):
        keeper = _Keeper(len(images))
        stream(model, images, [keeper], group, description="neighbours")
        for name in group:
            scores[name] = separation_index(keeper.points.pop(name), y)
    return scores


def _sizes(model: nn.Module, image: Tensor, modules: Collection[str]) -> dict[str, int]:
    """Return the values of the output of each of ``modules`` for one image, in the order in which they run."""
    sizes: dict[str, int] = {}
    stream(model, image, [lambda name, output, _: sizes.update({name: output.numel()})], modules)
    return sizes


def _groups(sizes: Mapping[str, int]) -> list[list[str]]:
    """Return the names in ``sizes`` in groups, in order, each of at most the size of the largest."""
    groups: list[list[str]] = []
    left = 0
    for name, size in sizes.items():
        if size > left:
            groups.append([])
            left = max(sizes.values())
        groups[-1].append(name)
        left -= size
    return groups
