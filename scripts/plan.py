"""Print what `dvc repro` would run, and how many minutes each stage took last time: python -m scripts.plan.

The minutes are those of docs/minutes.csv. Nothing runs.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from scripts.minutes import MINUTES, known
from src.core.errors import UserError, exit_cleanly, one_line

RUNS = re.compile(r"^Running stage '(.+)'", re.MULTILINE)


def main() -> None:
    """Print a line for each stage, and the sum."""
    command = [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing"]
    dry = subprocess.run(command, check=False, capture_output=True, text=True)
    if dry.returncode:
        raise UserError(f"`dvc repro --dry` failed: {one_line(dry.stderr)}")
    print(plan(RUNS.findall(dry.stdout), known()))


def plan(stages: list[str], rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a line for each of ``stages`` with its minutes from ``rows``, and a last line with their sum."""
    if not stages:
        return "Nothing would run: the results are those of the code, the data and params.yaml."
    known_rows = [rows[stage] for stage in stages if stage in rows]
    minutes = {stage: f"{rows[stage]['minutes']:.1f}" if stage in rows else "?" for stage in stages}
    lines = [f"{stage:<32}{spent:>8}" for stage, spent in minutes.items()]
    machines = "; ".join(dict.fromkeys(row["machine"] for row in known_rows))
    total = sum(row["minutes"] for row in known_rows)
    lines.append(f"{len(stages)} stages, {total:.0f} minutes for {len(known_rows)} of them on {machines} ({MINUTES})")
    return "\n".join(lines)


if __name__ == "__main__":
    exit_cleanly(main)
