"""The shapes that the search may try: how parameters become widths, and the shapes of the tree to begin with.

A shape is a tuple of widths, as `src.techniques.small.plan_with` takes it: its length says where the network is cut.
The parameters of Optuna are the number of layers and, for each of them, the binary logarithm of its width relative to a
VGG's. They say only how the layers share the MACs: widths are scaled until the MACs just fit. So no trial is too large
or wastes a part of the limit, and there is one dimension less to learn.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log2
from pathlib import Path
from typing import Any

import numpy as np

from src.core.errors import UserError
from src.core.files import read_csv, read_json
from src.network.vgg import Plan
from src.results.history import RECIPES
from src.techniques.small import macs_of, plan_of, plan_with

UNIFORM = "uniform"
SENSITIVITY = Path("studies/results/sensitivity.csv")
BEARABLE = 0.9  # share of the accuracy that is left when one layer alone is as narrow as this study suggests
SPREAD = 1.0  # a width is between half and twice a VGG's, before all are scaled
STEPS = 64  # of the scale, each time it doubles
SCALES = range(-12 * STEPS, 3 * STEPS + 1)  # from one channel in each layer to eight times a VGG

Widths = tuple[int, ...]
Parameters = dict[str, float]


@dataclass(frozen=True)
class Space:
    """The shapes of at most ``limit`` MACs with the depth of ``root``, its classes and the side of its images.

    Widths are multiples of ``multiple``.
    """

    root: Plan
    limit: int
    multiple: int

    @cached_property
    def vgg(self) -> dict[str, int]:
        """The widths of a VGG, by the names of its layers."""
        plan = plan_of(1.0, self.root)
        return dict(zip((block.name for block in (*plan.convolutions, *plan.head)), plan.widths, strict=True))

    @cached_property
    def layers(self) -> tuple[int, int]:
        """The least and the greatest number of layers: from half of a VGG's on, as long as the narrowest ones fit.

        Raises `UserError` if none fits.
        """
        numbers = range(len(self.vgg) // 2, len(self.vgg) + 1)
        costs = [self.macs((self.multiple,) * number) for number in numbers]
        if self.limit < costs[0]:
            raise UserError(f"MACS: must be at least {costs[0]:,}, for the narrowest layers (found {self.limit:,})")
        return numbers[0], numbers[bisect_right(costs, self.limit) - 1]

    def macs(self, widths: Sequence[int]) -> int:
        """Return the MACs of the network with ``widths``, for one image."""
        return macs_of(plan_with(widths, self.root))

    def suggested(self, trial: Any) -> Widths:
        """Return the shape that ``trial``, of Optuna, proposes."""
        layers = trial.suggest_int("layers", *self.layers)
        return self.widest([trial.suggest_float(name, -SPREAD, SPREAD) for name in [*self.vgg][:layers]])

    def widest(self, logarithms: Sequence[float]) -> Widths:
        """Return the widths at the largest scale that fits; ``logarithms`` are relative to a VGG and to the scale."""

        def scaled(scale: int) -> Widths:
            exact = (own * 2 ** (x + scale / STEPS) for own, x in zip(self.vgg.values(), logarithms, strict=False))
            return tuple(max(1, round(width / self.multiple)) * self.multiple for width in exact)

        fitting = bisect_right(SCALES, self.limit, key=lambda scale: self.macs(scaled(scale)))
        return scaled(SCALES[fitting - 1])

    def parameters(self, widths: Sequence[float]) -> Parameters:
        """Return the parameters of a shape whose layers share the MACs as ``widths`` do, as far as `SPREAD` allows."""
        logarithms = [log2(width / own) for width, own in zip(widths, self.vgg.values(), strict=False)]
        middle = (max(logarithms) + min(logarithms)) / 2
        within = (min(max(x - middle, -SPREAD), SPREAD) for x in logarithms)
        return {"layers": len(widths), **dict(zip(self.vgg, within, strict=False))}


def known_shapes(space: Space) -> dict[str, Parameters]:
    """Return the parameters of the shapes to begin with, by name; of several that come to the same widths the first.

    They are the uniform one, those of the recipes in metrics/recipes.json, and what the study sensitivity suggests.
    """
    least, most = space.layers
    widths = {UNIFORM: [*space.vgg.values()][:most], **_of_recipes(space.vgg), **_of_sensitivity(space.vgg)}
    known: dict[Widths, tuple[str, Parameters]] = {}
    for name, shape in widths.items():
        if least <= len(shape) <= most:
            parameters = space.parameters(shape)
            known.setdefault(space.widest([*parameters.values()][1:]), (name, parameters))
    return dict(known.values())


def _of_recipes(vgg: Mapping[str, int]) -> dict[str, list[float]]:
    """Return the widths of the recipes that have the first layers of ``vgg``, by name; {} before the first run."""
    histories = read_json(RECIPES, "recipes")["recipes"] if RECIPES.exists() else {}
    layers = {name: recipe["widths"]["convolutions"] | recipe["widths"]["hidden"] for name, recipe in histories.items()}
    return {name: [*own.values()] for name, own in layers.items() if [*own] == [*vgg][: len(own)]}


def _of_sensitivity(vgg: Mapping[str, int]) -> dict[str, list[float]]:
    """Return {"sensitivity": widths}, without the channels that each convolution alone can do without.

    {} where the study has not run, or has measured other layers.
    """
    rows = read_csv(SENSITIVITY, "layer", "method", "level", "accuracy") if SENSITIVITY.exists() else []
    whole = [row["accuracy"] for row in rows if row["method"] == "none"]
    taylor = [row for row in rows if row["method"] == "taylor"]
    measured = [*dict.fromkeys(row["layer"] for row in taylor)]
    if not whole or measured != [*vgg][: len(measured)]:
        return {}
    widths, removed = [], np.linspace(0, 1, 129)
    for name in measured:
        points = [(0.0, whole[0]), *((row["level"], row["accuracy"]) for row in taylor if row["layer"] == name)]
        left = np.interp(removed, *zip(*points, strict=True), right=0)
        widths.append(vgg[name] * (1 - float(removed[left >= BEARABLE * whole[0]].max())))
    return {"sensitivity": widths}
