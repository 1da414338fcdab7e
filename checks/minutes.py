"""Write how long each stage took into docs/minutes.csv: python -m checks.minutes.

Each stage adds a row to logs/minutes.csv when it ends (src/core/stage.py). Of each stage the newest run counts, with
the parts of it that were interrupted before; stages that did not run keep the row that docs/minutes.csv already has.
"""

import argparse
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.core.errors import exit_cleanly
from src.core.files import read_csv, write_csv
from src.core.stage import LOG
from src.export.latency import cpu_name

MINUTES = Path("docs/minutes.csv")


def main() -> None:
    """Bring docs/minutes.csv up to date."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    machine = f"{cpu_name()}, {os.cpu_count()} cores"
    spent = newest(read_csv(LOG, "stage", "minutes", "done"))
    rows = {stage: {"stage": stage, "minutes": minutes, "machine": machine} for stage, minutes in spent.items()}
    write_csv(MINUTES, (known() | rows).values())


def known() -> dict[str, dict[str, Any]]:
    """Return the rows of docs/minutes.csv by stage; none if there is no such file."""
    return {row["stage"]: row for row in read_csv(MINUTES, "stage", "minutes", "machine")} if MINUTES.exists() else {}


def summed(stages: Sequence[str], rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how many ``stages`` there are, and the minutes of those in ``rows``."""
    known_rows = [rows[stage] for stage in stages if stage in rows]
    count = f"{len(stages)} stage{'s' if len(stages) != 1 else ''}"
    if not known_rows:
        return f"{count}; {MINUTES} has no time of them"
    machines = "; ".join(dict.fromkeys(row["machine"] for row in known_rows))
    total = sum(row["minutes"] for row in known_rows)
    return f"{count}, {total:.0f} minutes for {len(known_rows)} of them on {machines} ({MINUTES})"


def newest(log: list[dict[str, Any]]) -> dict[str, float]:
    """Return for each stage that came to its end the minutes of its newest run, interrupted parts included."""
    finished, parts = {}, defaultdict(float)
    for row in log:
        parts[row["stage"]] += row["minutes"]
        if row["done"]:
            finished[row["stage"]] = round(parts.pop(row["stage"]), 2)
    return finished


if __name__ == "__main__":
    exit_cleanly(main)
