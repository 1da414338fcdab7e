"""Print the comparison of all recipes: python -m scripts.table [--rev demo]."""

import argparse
import io
from typing import Any

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from matplotlib.ticker import EngFormatter

from src.core.errors import UserError, exit_cleanly
from src.report.comparison import COMPARISON

LONGEST_NAME = 24
LEGEND = "x: times fewer or faster than dense; drop: test points below dense; ms: a batch of 1 or 64"


def main() -> None:
    """Print the table of the workspace, or of the revision or experiment named by ``--rev``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rev", help="a Git revision or the name of a DVC experiment; without it the workspace")
    print(table(read(parser.parse_args().rev)))


def read(revision: str | None) -> list[dict[str, Any]]:
    """Return the rows of metrics/comparison.csv at ``revision``, or of the workspace; `UserError` without one."""
    try:
        text = dvc.api.read(str(COMPARISON), rev=revision)
    except (DvcException, OSError) as error:
        raise UserError(f"{COMPARISON}: not found in {revision or 'the workspace'}: {error}") from None
    return pd.read_csv(io.StringIO(text)).to_dict("records")


def table(rows: list[dict[str, Any]]) -> str:
    """Return ``rows`` aligned under short headings, at most 120 characters wide."""
    heading = f"CIFAR-10, {rows[0]['edition']} edition. {LEGEND}"
    return f"{heading}\n{pd.DataFrame(map(readable, rows)).to_string(index=False)}"


def readable(row: dict[str, Any]) -> dict[str, str]:
    """Return one row of the comparison in units that are easy to read."""
    name = row["recipe"]
    return {
        "recipe": name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…",
        "val %": f"{100 * row['val_accuracy']:.2f}",
        "test %": f"{100 * row['test_accuracy']:.2f}",
        "drop": f"{row['accuracy_drop_points']:z.2f}",
        "params": engineering(row["parameters"]),
        "nonzero": engineering(row["nonzero_parameters"]),
        "MACs": engineering(row["macs"]),
        "MACs x": times(row["macs_ratio"]),
        "size": engineering(row["bytes"], "B"),
        "size x": times(row["bytes_ratio"]),
        "b1 ms": f"{row['latency_ms_b1']:.2f}",
        "b1 x": times(row["latency_b1_ratio"]),
        "b64 ms": f"{row['latency_ms_b64']:.1f}",
    }


def engineering(value: float, unit: str = "") -> str:
    """Return ``value`` with one decimal and an SI prefix: 15.3 M."""
    return EngFormatter(unit, places=1)(value).strip()


def times(ratio: float) -> str:
    """Return ``ratio`` with two decimals, as in metrics/comparison.csv."""
    return f"{ratio:.2f}"


if __name__ == "__main__":
    exit_cleanly(main)
