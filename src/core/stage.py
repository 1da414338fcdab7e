"""Running a stage: errors in one line, and a row in the log of times."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from src.core.errors import exit_cleanly

LOG = Path("logs/minutes.csv")
HEADER = "stage,minutes,done\n"


def run_stage(main: Callable[[], None]) -> None:
    """Run the stage ``main`` as `exit_cleanly` does, and write its name and its minutes to `LOG`.

    The name is that of DVC: ``train``, or ``compress@channels`` for the recipe channels. ``done`` is 1 if the stage
    came to its end, and 0 if it failed or was interrupted. `scripts.minutes` reads the log.
    """
    start, done = time.monotonic(), 0
    try:
        exit_cleanly(main)
        done = 1
    finally:
        if os.environ.get("RANK", "0") == "0":  # under torchrun the first process writes
            _log((time.monotonic() - start) / 60, done)


def _log(minutes: float, done: int) -> None:
    LOG.parent.mkdir(exist_ok=True)
    new = not LOG.exists()
    name = "@".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"{HEADER if new else ''}{name},{minutes:.2f},{done}\n")
