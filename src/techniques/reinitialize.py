"""Reinitialize: a control. The parent's shape, trained from scratch for what the parent's path has spent.

Liu et al. 2019, "Rethinking the value of network pruning" (arXiv:1810.05270): where the shape alone, trained from
scratch, is as accurate as the compressed network, the weights that compression kept are worth nothing. Zeros, shared
values and precision are no part of a shape.
"""

from collections.abc import Sequence

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import Trained
from src.compression.training import train_from_scratch


class Settings(Trained):
    """How to train from scratch."""

    def objection(self, ancestors: Sequence[str]) -> str | None:
        """Return why not to train a shape whose BatchNorm has been folded."""
        if "fold" not in ancestors:
            return None
        return "reinitialize cannot follow fold: without BatchNorm the shape does not train by these settings"


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return a network of the plan of ``candidate``, trained from scratch for what its path has spent."""
    return train_from_scratch(candidate, candidate.network.plan, "the same shape, ", context, settings.train)
