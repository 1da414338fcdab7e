"""Fine-tune: train the parent on, with nothing else changed.

On the root network it is the control for every other recipe that fine-tunes: what those gain by training alone.
"""

from src.compression.candidate import Candidate, Context
from src.compression.fine_tune import FineTune, after_fine_tuning, fine_tune
from src.compression.technique import TechniqueSettings


class Settings(TechniqueSettings):
    """How to fine-tune."""

    fine_tune: FineTune


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` after fine-tuning."""
    return after_fine_tuning(candidate, "", fine_tune(candidate.network, context, settings.fine_tune))
