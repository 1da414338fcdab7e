"""Ctrl-C and SIGTERM as a flag that a long computation can look at."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Give a function that returns whether Ctrl-C or SIGTERM has arrived since; a second one stops at once.

    Works in the main thread only, as Python's signal handlers do.
    """
    received: list[int] = []

    def note(number: int, _: object) -> None:
        if received:
            raise KeyboardInterrupt("interrupted twice")
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
