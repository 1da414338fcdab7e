"""Showing that a long step goes on: a bar at a terminal while it runs, and everywhere a line at its end."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, description: str | None, unit: str = "batch") -> Iterator[Item]:
    """Yield the ``total`` ``items`` and show how far this has come, under the name ``description``; None: show nothing.

    A terminal shows a bar with the time left. After the last item a line with the seconds goes to standard output. All
    of this happens between two items, so that code which measures its own time within an item is not disturbed.

    """
    if description is None:
        yield from items
        return
    start = time.monotonic()
    with tqdm(items, desc=description, total=total, unit=unit, leave=False, disable=None) as bar:
        yield from bar
    print(f"{description}: {total} x {unit} in {time.monotonic() - start:.1f} s", flush=True)
