"""Running a stage: errors in one line, and a row in the log of times."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from src.core.errors import exit_cleanly, one_line
from src.core.signals import ending, mute

LOG = Path("logs/minutes.csv")
HEADER = "stage,minutes,done\n"


def run_stage(main: Callable[[], None]) -> None:
    """Run the stage ``main`` as `exit_cleanly` does, and write its name and its minutes to `LOG`.

    The name is that of DVC: ``train``, or ``compress@channels`` for the recipe channels. ``done`` is 1 if the stage
    came to its end, and 0 if it failed or was interrupted. `checks.minutes` reads the log. SIGTERM and SIGHUP end the
    stage as Ctrl-C does, so that nothing is left under a temporary name.
    """
    start, done = time.monotonic(), 0
    before = {number: signal.signal(number, _terminate) for number in ending()}
    try:
        exit_cleanly(main)
        done = 1
    finally:
        if os.environ.get("RANK", "0") == "0":  # under torchrun the first process writes
            _log((time.monotonic() - start) / 60, done)
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, _: object) -> None:
    for other in ending():
        signal.signal(other, signal.SIG_IGN)  # a second one must not disturb the removal of temporary files
    mute(number)
    raise KeyboardInterrupt("terminated")


def _log(minutes: float, done: int) -> None:
    """Add a row to `LOG`; a log that cannot be written does not change how the stage ends."""
    name = "@".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
    try:
        LOG.parent.mkdir(exist_ok=True)
        new = not LOG.exists()
        with LOG.open("a", encoding="utf-8") as log:
            log.write(f"{HEADER if new else ''}{name},{minutes:.2f},{done}\n")
    except OSError as error:
        print(f"{LOG}: cannot be written: {one_line(error)}", file=sys.stderr)
