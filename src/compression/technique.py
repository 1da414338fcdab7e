"""What every technique's schema offers, and how a technique is found by its name."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import Field

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.core.params import Settings
from src.training.recipe import Training

ON_WEIGHTS = ("prune_weights", "share_weights")  # techniques whose work lies in single weights
FOLDER = Path(__file__).parents[1] / "techniques"


class TechniqueSettings(Settings):
    """Base of every technique's ``Settings``. ``leaf``: no technique may follow this one."""

    leaf: ClassVar[bool] = False

    def objection(self, ancestors: Sequence[str]) -> str | None:
        """Return why this technique cannot follow ``ancestors``; or None.

        ``ancestors``: the techniques on the path from the root, or from the last control, which starts over.
        """


class Folds(TechniqueSettings):
    """Base of the techniques that fold BatchNorm and train nothing."""

    def objection(self, ancestors: Sequence[str]) -> str | None:
        """Return why not to fold: where weights share values, each output channel would get values of its own."""
        undone = "share_weights" in ancestors and "fold" not in ancestors
        return "its folding would undo share_weights" if undone else None


class Trained(TechniqueSettings):
    """Base of the techniques that train. Controls have no budget: they train for what their parent's path has spent."""

    train: Training

    @property
    def scales_filters(self) -> bool:
        """Whether the training scales the weights at the start: only `Muon` knows filters of fixed norm."""
        return self.train.normed_filters and self.train.optimizer == "muon"


class FineTuned(Trained):
    """Base of the techniques that change a network and train it on.

    ``budget``: in epochs of the trained network. ``kept``: techniques of `ON_WEIGHTS` whose work the training keeps.
    """

    kept: ClassVar[tuple[str, ...]] = ()
    budget: float = Field(gt=0, le=1000)

    def objection(self, ancestors: Sequence[str]) -> str | None:
        """Return why not to train on: weights would change that must not, or whose BatchNorm has been folded."""
        if self.scales_filters and "fold" in ancestors:
            return "train.normed_filters scales the weights at the start; fold has taken the BatchNorm that this needs"
        undone = [step for step in ancestors if step in ON_WEIGHTS and step not in self.kept]
        return f"its training would undo {undone[0]}: every weight changes" if undone else None


class Technique(Protocol):
    """A module of src.techniques."""

    Settings: type[TechniqueSettings]

    def apply(self, candidate: Candidate, context: Context, settings: Any) -> Candidate:
        """Return what ``candidate`` becomes by this technique."""


def technique_names() -> list[str]:
    """Return the names of all techniques in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def technique(name: str) -> Technique:
    """Return the technique ``name``. No other technique is imported."""
    return importlib.import_module(f"src.techniques.{name}")
