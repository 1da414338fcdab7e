"""Separation Index (SI): how often the nearest neighbours of an image are of its own class.

SI is the leave-one-out accuracy of the nearest neighbour (Kalhor et al., arXiv:2012.13717; it is Thornton's geometrical
separability index, and 1 - N3 of Ho & Basu). With ``order`` r the r nearest neighbours count: HARD, only if all of them
are of the image's class; SOFT, the share of them that is.

Exact, without the n x n matrix: distances come from float32 products in blocks of rows and of features, of which the
nearest few per row are kept. Where rounding leaves a doubt which are the nearest, these are ranked again by float64
differences; where even the last of the few is in doubt, the row is compared with all images in float64.

Ties: where several neighbours are equally far and only some of them count, the credit is the expected value of a random
choice among them, so the order of the images has no effect.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from src.separation.centers import EPSILON, ROUNDING
from src.separation.checks import Array, as_labels, as_points, flattened
from src.separation.scores import Scores
from src.separation.stream import home_of, stream

Kind = Literal["hard", "soft"]
ROWS, FEATURES = 1000, 8192  # of a block of products
SPARE = 4  # neighbours that are kept beyond those that count
FEW_ROWS = 50  # compared again at a time


def separation_index(
    x: Array,
    y: Array,
    search_x: Array | None = None,
    search_y: Array | None = None,
    order: int = 1,
    kind: Kind = "hard",
) -> Scores:
    """Return the SI of activations ``x`` [N, D] or [N, C, H, W] with integer labels ``y`` [N].

    Neighbours are looked for in ``search_x`` with ``search_y``; by default among ``x``, the image itself left out.
    ``order``: how many count. Raises ValueError on an unknown ``kind``, fewer than ``order`` neighbours, shapes that do
    not match, labels that are no class, NaN or Inf.
    """
    if kind not in ("hard", "soft"):
        raise ValueError(f"kind: found {kind!r}; wanted hard or soft")
    if (search_x is None) != (search_y is None):
        raise ValueError("search_x and search_y: found one without the other; wanted both or none")
    points = as_points(x)
    labels, classes = as_labels(y, len(points))
    others = points if search_x is None else as_points(search_x, "search_x").to(points.device)
    other_labels = labels if search_y is None else as_labels(search_y, len(others), name="search_y")[0]
    if others.shape[1] != points.shape[1]:
        raise ValueError(f"search_x: found {others.shape[1]} values per image; wanted {points.shape[1]}, as in x")
    available = len(others) - (search_x is None)
    if not 1 <= order <= available:
        raise ValueError(f"order: found {order}; wanted 1 to {available}, the number of other images")
    search = _Search(points, others, search_x is None, order)
    credit, tied = _credits(search, labels, other_labels.to(labels.device), kind)
    return Scores(credit, tied, labels, classes)


@dataclass
class _Search:
    """A search for the ``order`` nearest of ``others`` [M, D] for each of ``points`` [N, D].

    ``own``: ``others`` are ``points``, and no image is its own neighbour.
    """

    points: Tensor
    others: Tensor
    own: bool
    order: int

    @property
    def kept(self) -> int:
        """How many neighbours per row are kept."""
        return min(self.order + SPARE, len(self.others))

    @cached_property
    def lengths(self) -> tuple[Tensor, Tensor]:
        """Squared lengths of points and others, float32."""
        return _squared_lengths(self.points), _squared_lengths(self.others)

    @cached_property
    def middle(self) -> Tensor:
        """The mean of the others, float64 [D]."""
        return sum(part.sum(0, dtype=torch.float64) for part in self.others.split(FEW_ROWS)) / len(self.others)

    @cached_property
    def tie(self) -> float:
        """How far two distances may be apart that count as equal."""
        middle = self.middle.to(self.others.dtype)
        return ROUNDING * max(float((part - middle).square().sum(1).max()) for part in self.others.split(FEW_ROWS))

    @cached_property
    def slack(self) -> float:
        """How wrong a float32 distance may be, as a share of the two squared lengths; see `centers._fast_distances`."""
        blocks = math.ceil(self.points.shape[1] / FEATURES)
        return (2 * min(self.points.shape[1], FEATURES) ** 0.5 + 8 + blocks) * EPSILON

    def upper(self, lower: Tensor, places: Tensor) -> Tensor:
        """Return the largest squared distances that belong to the smallest ones ``lower`` [N, kept]."""
        return lower + 2 * self.slack * (self.lengths[0].unsqueeze(1) + self.lengths[1][places])

    def candidates(self) -> tuple[Tensor, Tensor]:
        """Return the nearest others by float32 products, and their places: [N, kept], ascending.

        The distances are the smallest squared ones that rounding allows.
        """
        values = torch.full((len(self.points), self.kept), math.inf, device=self.points.device)
        places = torch.zeros_like(values, dtype=torch.int64)
        for rows in _blocks(len(self.points)):
            for columns in _blocks(len(self.others)):
                if self.own and columns.start < rows.start:
                    continue  # the block is the mirror image of one before
                distances = self._block(rows, columns)
                _keep_nearest(values[rows], places[rows], distances, columns.start)
                if self.own and columns.start > rows.start:
                    _keep_nearest(values[columns], places[columns], distances.T, rows.start)
        return values, places

    def _block(self, rows: slice, columns: slice) -> Tensor:
        """Return the smallest squared distances of a block that rounding allows, by float32 products."""
        first, second = self.points[rows], self.others[columns]
        result = (1 - self.slack) * (self.lengths[0][rows].unsqueeze(1) + self.lengths[1][columns])
        for start in range(0, first.shape[1], FEATURES):
            part = slice(start, start + FEATURES)
            result.addmm_(first[:, part].float(), second[:, part].float().T, alpha=-2)
        if self.own and rows.start == columns.start:
            result.fill_diagonal_(math.inf)
        return result

    def ranked_again(self, row: int, places: Tensor) -> Tensor:
        """Return the squared distances (float64 [n]) of point ``row`` to others at ``places``, by differences."""
        return (self.others[places].double() - self.points[row].double()).square().sum(1)

    def all_distances(self, rows: Tensor) -> Tensor:
        """Return the squared distances (float64 [n, M]) of points ``rows`` to all others; infinite to themselves."""
        first = self.points[rows].double() - self.middle
        result = first.square().sum(1, keepdim=True).expand(-1, len(self.others)).clone()
        for columns in _blocks(len(self.others)):
            second = self.others[columns].double() - self.middle
            result[:, columns] += second.square().sum(1) - 2 * first @ second.T
        return result.scatter(1, rows.unsqueeze(1), math.inf) if self.own else result


def _credits(search: _Search, labels: Tensor, other_labels: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
    """Return credits (float64 [N]) and whether tied (bool [N])."""
    values, places = search.candidates()
    order, kept = search.order, search.kept
    same = other_labels[places] == labels.unsqueeze(1)
    credit = _credit(same[:, :order], kind)
    tied = torch.zeros_like(labels, dtype=torch.bool)
    unseen = len(search.others) - search.own - kept  # neighbours that were not kept
    upper = search.upper(values, places) + 2 * search.tie
    doubtful = upper[:, :order].amax(1, keepdim=True) >= values[:, order : order + 1]
    open_ended = (upper.kthvalue(order).values >= values[:, -1]) & torch.tensor(unseen > 0, device=values.device)
    few = (doubtful.any(1) & ~open_ended).nonzero().squeeze(1)
    for row in few.tolist():
        near = values[row].isfinite()
        distances = search.ranked_again(row, places[row][near]).unsqueeze(0)
        credit[row], tied[row] = _expected(distances, same[row][near].unsqueeze(0), order, kind, search.tie)
    for rows in open_ended.nonzero().squeeze(1).split(FEW_ROWS):
        equal = other_labels == labels[rows].unsqueeze(1)
        credit[rows], tied[rows] = _expected(search.all_distances(rows), equal, order, kind, search.tie)
    return credit, tied


def _credit(same: Tensor, kind: Kind) -> Tensor:
    """Return the credit of images whose neighbours are of the ``same`` class (bool [N, order])."""
    return same.all(1).double() if kind == "hard" else same.double().mean(1)


def _expected(distances: Tensor, same: Tensor, order: int, kind: Kind, tie: float) -> tuple[Tensor, Tensor]:
    """Return the expected credit under a random choice among equally far neighbours, and whether there was a choice.

    ``distances`` [N, n] squared, at least ``order`` of them finite; ``same`` [N, n]. Of t neighbours at the distance of
    the last that counts, m are needed, and s are of the same class. A random choice of m has m s / t of them on
    average, and all of them are with the probability s / t (s - 1) / (t - 1) ..., m factors.
    """
    last = distances.kthvalue(order).values.unsqueeze(1)
    nearer = distances < last * (1 - ROUNDING) - tie
    level = (distances <= last * (1 + ROUNDING) + tie) & ~nearer
    needed, number, right = order - nearer.sum(1), level.sum(1), (level & same).sum(1)
    tied = number > needed
    if kind == "soft":
        return ((nearer & same).sum(1) + needed * right / number.double()) / order, tied
    credit = (~(nearer & ~same).any(1)).double()
    for drawn in range(order):
        chance = (right - drawn).clamp(min=0) / (number - drawn).clamp(min=1).double()
        credit = torch.where(drawn < needed, credit * chance, credit)
    return credit, tied


def _keep_nearest(values: Tensor, places: Tensor, distances: Tensor, start: int) -> None:
    """Update the nearest ``values`` [n, kept] and ``places`` with ``distances`` [n, m] to others from ``start`` on."""
    kept = values.shape[1]
    best = distances.topk(min(kept, distances.shape[1]), largest=False)
    merged = torch.cat([values, best.values], 1).topk(kept, largest=False)
    places.copy_(torch.cat([places, best.indices + start], 1).gather(1, merged.indices))
    values.copy_(merged.values)


def _blocks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, ROWS):
        yield slice(start, min(start + ROWS, rows))


def _squared_lengths(points: Tensor) -> Tensor:
    return torch.linalg.vector_norm(points, dim=1).double().square().float()


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


def layer_neighbours(
    model: nn.Module, images: Tensor, y: Array, modules: Collection[str], order: int = 1, kind: Kind = "hard"
) -> dict[str, Scores]:
    """Return the SI of each of ``modules`` of ``model`` on ``images`` with integer labels ``y`` [N].

    The activations of a whole layer are in memory: 2.6 GB for 10,000 images of 65,536 values. Modules share a forward
    pass, which stops after the last of them, as long as together they are no larger than the largest one.
    """
    scores: dict[str, Scores] = {}
    for group in _groups(_sizes(model, images[:1], modules)):
        keeper = _Keeper(len(images))
        stream(model, images, [keeper], group, description="neighbours")
        for name in group:
            scores[name] = separation_index(keeper.points.pop(name), y, order=order, kind=kind)
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
