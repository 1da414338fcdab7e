"""Train on: the control of all recipes that train. The root, trained on for what the parent's path has spent."""

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import Trained
from src.compression.training import train_on


class Settings(Trained):
    """How to train. How long follows from the parent."""


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return the root network after as much training as the path of ``candidate``; its network is not looked at."""
    return train_on(candidate, context, settings.train)
