"""Fold: the same function with fewer layers and parameters, equal up to rounding."""

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import Folds
from src.network.folding import folded, has_batch_norm


class Settings(Folds):
    """There is nothing to set."""


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` with BatchNorm folded into the convolutions, and a repeated pool into the head."""
    parts = []
    if has_batch_norm(candidate.network):
        parts.append("BatchNorm")
    if candidate.network.plan.pooled_side > 1:
        parts.append("the repeated pool")
    step = f"folded {' and '.join(parts)}" if parts else "there was nothing to fold"
    return candidate.after(step, folded(candidate.network), fold=True)
