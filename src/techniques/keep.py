"""Keep: the network as it is, for the baseline of every comparison."""

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import TechniqueSettings


class Settings(TechniqueSettings):
    """There is nothing to set."""


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` as it is."""
    return candidate.after("kept as it is", candidate.network)
