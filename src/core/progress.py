"""The progress of a long step: a bar at a terminal while it runs, and everywhere a line at its end."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, description: str | None, units: str = "batches") -> Iterator[Item]:
    """Yield the ``total`` ``items`` and show how far this has come, under the name ``description``; None: show nothing.

    A terminal shows a bar with the time left. After the last item a line with the seconds goes to standard output. All
    of this happens between two items, so that a time that is measured for one item does not hold it. ``units``: what
    the items are, in one word.
    """
    if description is None:
        yield from items
        return
    start = time.monotonic()
    with tqdm(items, desc=description, total=total, unit=f" {units}", leave=False, disable=None) as bar:
        yield from bar
    print(f"{description}: {total} {units} in {time.monotonic() - start:.1f} s", flush=True)
