"""Half: matrices and filter banks stored in float16; the computation stays in float32.

The stage train stores what it trained in this way already. It is the fair baseline for bytes, because float16 halves
the size of any network.
"""

from typing import ClassVar

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import TechniqueSettings


class Settings(TechniqueSettings):
    """There is nothing to set."""

    leaf: ClassVar[bool] = True


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` with its file to be written with float16 weights."""
    return candidate.after("weights stored in float16", candidate.network, precision="float16")
