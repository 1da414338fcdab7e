"""Fine-tune: train the parent on, with nothing else changed."""

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import FineTuned
from src.compression.training import fine_tune


class Settings(FineTuned):
    """How to fine-tune, and for how long."""


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` after fine-tuning."""
    return fine_tune(candidate, candidate.network, "", context, settings)
