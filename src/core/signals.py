"""Ctrl-C, SIGTERM and SIGHUP as a flag that a long computation can look at."""

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Iterator

HANGUP: int | None = getattr(signal, "SIGHUP", None)  # Windows has none


def ending() -> tuple[int, ...]:
    """Return the signals besides Ctrl-C that ask a program to end: SIGTERM, and SIGHUP, sent when a terminal closes.

    SIGHUP is left out where it does nothing, as under ``nohup``.
    """
    if HANGUP is None or signal.getsignal(HANGUP) == signal.SIG_IGN:
        return (signal.SIGTERM,)
    return (signal.SIGTERM, HANGUP)


def mute(number: int) -> None:
    """Let the program print into nothing if ``number`` is SIGHUP: to write to a terminal that is closed is an error."""
    if number != HANGUP:
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode):  # isatty no longer knows
            os.dup2(nothing, stream)


@contextlib.contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Give a function that returns whether Ctrl-C, SIGTERM or SIGHUP has arrived since.

    A second signal stops at once, but not a second SIGHUP, since a shell passes on what its terminal sends as well.
    Works in the main thread only, as Python's signal handlers do.
    """
    received: list[int] = []

    def note(number: int, _: object) -> None:
        if received and number != HANGUP:
            raise KeyboardInterrupt("interrupted twice")
        received.append(number)
        mute(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, *ending())}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
