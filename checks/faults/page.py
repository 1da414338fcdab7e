"""The table of docs/machines.md: a row for each fault, which a new run replaces."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from checks.faults.judge import Bench, Case

PAGE = Path("docs/machines.md")
BEGIN, END = "<!-- faults:begin -->", "<!-- faults:end -->"
HEADER = ["| fault | tried | held | what happens | the line a user sees |", "| --- | ---: | ---: | --- | --- |"]
LONGEST = 160  # characters of a line that is shown
Fault = Callable[[Bench], Iterator[Case]]


def row(name: str, fault: Fault, cases: list[Case], reason: str = "") -> str:
    """Return the row of ``fault``; ``reason`` says why it could not be tried, or not to its end."""
    held = [case for case in cases if not case.mistakes]
    found = " ".join(inspect.getdoc(fault).split())
    broken = Counter(re.sub(r"(:|,| \S*/).*", "", mistake) for case in cases for mistake in case.mistakes)
    if broken:
        found += f" Not held: {', '.join(f'{reason} ({count})' for reason, count in broken.items())}."
    if reason:
        found += f" Not tried here: {reason}."
    found = found.replace("|", "/")
    lines = [case.line for case in held if case.line] or [case.line for case in cases if case.line]
    shown = f"`{plain(lines[len(lines) // 2])}`" if lines else ""
    return f"| {name} | {len(cases):,} | {len(held):,} | {found} | {shown} |".replace("\n", " ")


def plain(line: str) -> str:
    """Return ``line`` as it can stand in a table: without paths of temporary folders, and not too long."""
    line = re.sub(r"(?<![\w.…])/\S*/(?=\S)", "…/", line.replace("|", "/").replace("`", "'"))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def written(page: str, rows: dict[str, str], names: Iterable[str]) -> str:
    """Return ``page`` with ``rows`` by fault in its table, in the order of ``names``; other rows stay as they are."""
    before, rest = page.split(BEGIN)
    table, after = rest.split(END)
    old = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}
    kept = [(old | rows)[name] for name in names if name in old | rows]
    return "\n".join([f"{before}{BEGIN}", *HEADER, *kept, f"{END}{after}"])
