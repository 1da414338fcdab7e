"""Print the comparison of all recipes: python -m scripts.table [--rev demo]."""

import argparse
import textwrap
from typing import Any

import pandas as pd

from scripts.revision import Revision, open_revision
from src.core.errors import UserError, exit_cleanly
from src.results.comparison import COMPARISON
from src.results.table import data_set, legend, readable

WIDTH = 120
LONGEST_NAME = 20
COLUMNS = (
    "recipe",
    "val_accuracy",
    "test_accuracy",
    "balanced_accuracy",
    "difference_points",
    "reference",
    "claim",
    "macs_ratio",
    "bytes",
    "bytes_ratio",
    "latency_ms_b1",
    "latency_b1_ratio",
)


def main() -> None:
    """Print the table of the working tree, or of the revision or experiment named by ``--rev``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rev", help="a Git revision or the name of a DVC experiment; without it the working tree")
    revision = open_revision(parser.parse_args().rev)
    rows = read(revision)
    print(table(rows, data_set(revision.dataset(), rows)))


def read(revision: Revision) -> list[dict[str, Any]]:
    """Return the rows of metrics/comparison.csv at ``revision``; `UserError` without one."""
    rows = revision.rows(str(COMPARISON), "recipe", "edition")
    if not rows:
        raise UserError(f"{COMPARISON}: no results in {revision.label}; run `dvc repro`")
    return rows


def table(rows: list[dict[str, Any]], data: str) -> str:
    """Return ``rows`` aligned under short headings, at most 120 characters wide, below ``data`` and the legend."""
    longest = min(LONGEST_NAME, max(len(row["recipe"]) for row in rows))
    lines = _aligned(rows, longest)
    if (surplus := lines.index("\n") - WIDTH) > 0:
        lines = _aligned(rows, longest - surplus)
    return f"{textwrap.fill(f'{data} {legend(rows)}', WIDTH)}\n{lines}"


def _aligned(rows: list[dict[str, Any]], longest: int) -> str:
    """Return ``rows`` as lines of equal length; names have at most ``longest`` characters."""
    names = [row["recipe"] if len(row["recipe"]) <= longest else f"{row['recipe'][: longest - 1]}…" for row in rows]
    named = [row | {"recipe": name} for row, name in zip(rows, names, strict=True)]
    return pd.DataFrame(readable(named, COLUMNS)).to_string(index=False)


if __name__ == "__main__":
    exit_cleanly(main)
