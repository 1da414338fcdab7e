"""Write how long each stage took into docs/minutes.csv: python -m scripts.minutes.

Each stage adds a row to logs/minutes.csv when it ends (src/core/stage.py). The newest row of each stage counts; stages
that did not run keep the row that docs/minutes.csv already has.
"""

from pathlib import Path
from typing import Any

from src.core.errors import exit_cleanly
from src.core.files import read_csv, write_csv
from src.core.stage import LOG
from src.deployment.latency import cpu_name

MINUTES = Path("docs/minutes.csv")


def main() -> None:
    """Bring docs/minutes.csv up to date."""
    write_csv(MINUTES, updated(known(), read_csv(LOG), cpu_name()))


def known() -> dict[str, dict[str, Any]]:
    """Return the rows of docs/minutes.csv by stage; none if there is no such file."""
    return {row["stage"]: row for row in read_csv(MINUTES)} if MINUTES.exists() else {}


def updated(rows: dict[str, dict[str, Any]], log: list[dict[str, Any]], cpu: str) -> list[dict[str, Any]]:
    """Return ``rows`` with the newest row of ``log`` for each stage that is in it, measured on ``cpu``."""
    return [*(rows | {row["stage"]: {**row, "cpu": cpu} for row in log}).values()]


if __name__ == "__main__":
    exit_cleanly(main)
