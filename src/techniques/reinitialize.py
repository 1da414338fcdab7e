"""Reinitialize: a control. The parent's shape with new weights, trained as long as the parent's path.

Liu et al. 2019, "Rethinking the value of network pruning" (arXiv:1810.05270): where the shape alone, trained from
nothing, is as accurate as the compressed network, the weights that compression kept are worth nothing. Zeros, shared
values and precision are no part of a shape.
"""

from collections.abc import Sequence

from src.compression.candidate import Candidate, Context
from src.compression.scratch import FromScratch, train_from_new_weights
from src.compression.technique import TechniqueSettings


class Settings(TechniqueSettings):
    """How to train from nothing."""

    from_scratch: FromScratch

    def objection(self, ancestors: Sequence[str]) -> str | None:
        """Return why not to train a shape whose BatchNorm has been folded."""
        if "fold" not in ancestors:
            return None
        return "reinitialize cannot follow fold: without BatchNorm the shape does not train by these settings"


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return a network of the plan of ``candidate``, trained from new weights for as many image passes."""
    plan = candidate.network.plan
    return train_from_new_weights("the same shape, ", plan, candidate, context, settings.from_scratch)
