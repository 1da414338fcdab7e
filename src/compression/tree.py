"""Recipes: lists of steps in params.yaml, checked before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from src.compression.candidate import Candidate, Context
from src.core.errors import ParamsError
from src.core.params import PARAMS, Settings, validate
from src.techniques import fold, prune_channels, quantize, truncate


class Technique(Protocol):
    """What a module of this package offers to be a step."""

    Settings: type[Settings]

    def apply(self, candidate: Candidate, context: Context, settings: Any) -> Candidate:
        """Do the step."""


STEPS: dict[str, Technique] = {
    "fold": fold,
    "truncate": truncate,
    "prune_channels": prune,
    "quantize": quantize,
}
LAST = "quantize"  # what comes out of it is a file's format, no network that a step could work on


class CompressSettings(Settings):
    """The section ``compress`` of params.yaml; `parse` checks the steps of a recipe."""

    recipes: dict[str, list[Any]]


@dataclass(frozen=True)
class Step:
    """One technique with its settings."""

    name: str
    settings: Settings


def parse(recipe: str, items: Sequence[Any]) -> list[Step]:
    """The steps of ``recipe``; `ParamsError` for an unknown step, wrong settings, or a step after quantize."""
    steps = [_step(item, f"compress.recipes.{recipe}.{position}") for position, item in enumerate(items)]
    for position, (before, step) in enumerate(pairwise(steps), start=1):
        if before.name == LAST:
            place = f"compress.recipes.{recipe}.{position}.{step.name}"
            raise ParamsError(f"{PARAMS}: {place}: no step may come after {LAST}")
    return steps


def run(steps: Sequence[Step], candidate: Candidate, context: Context) -> Candidate:
    """What ``candidate`` becomes by all ``steps``, one after the other."""
    for step in steps:
        candidate = STEPS[step.name].apply(candidate, context, step.settings)
    return candidate


def _step(item: Any, place: str) -> Step:
    name, values = _named(item, place)
    if name not in STEPS:
        raise ParamsError(f"{PARAMS}: {place}: unknown step {name!r}; there are: {', '.join(STEPS)}")
    return Step(name, validate(STEPS[name].Settings, values, f"{place}.{name}"))


def _named(item: Any, place: str) -> tuple[Any, Any]:
    """Name and settings of a step, written as ``name`` or as ``name: {key: value}``."""
    if isinstance(item, str):
        return item, {}
    if isinstance(item, dict) and len(item) == 1:
        name, values = next(iter(item.items()))
        return name, {} if values is None else values
    raise ParamsError(f"{PARAMS}: {place}: must be a step's name, or one name with its settings (found {item!r})")
