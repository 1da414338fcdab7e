"""Write the results into README.md between their markers: python -m scripts.readme [--check]."""

import argparse
import textwrap
from pathlib import Path
from typing import Any

from src.core.errors import UserError, exit_cleanly
from src.core.files import atomic, read_csv, read_json
from src.report.comparison import BENCHMARK, COMPARISON, RECIPES
from src.report.table import LEGEND, readable

README = Path("README.md")
WIDTH = 120
CONDITIONS = ("threads", "cpu", "instruction_sets", "onnxruntime", "numpy", "python", "blocks", "calls")
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
COLUMNS = (
    "recipe",
    "test_accuracy",
    "difference_points",
    "reference",
    "parameters",
    "macs",
    "macs_ratio",
    "bytes",
    "bytes_ratio",
    "bytes_ratio_half",
    "latency_ms_b1",
    "latency_b1_ratio",
)


def main() -> None:
    """Bring README.md up to date; with ``--check`` only say whether it is, and exit 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the results are stale")
    check = parser.parse_args().check
    text = _text(README)
    updated = replace(text, results())
    if check and updated != text:
        raise UserError(f"{README}: the results differ from {COMPARISON}; run `make readme`")
    if not check:
        with atomic(README) as temporary:
            temporary.write_text(updated)


def replace(text: str, block: str) -> str:
    """Return ``text`` with ``block`` between the markers; `UserError` if each marker is not there exactly once."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f"{README}: expected one {BEGIN} and after it one {END}")
    return f"{text.partition(BEGIN)[0]}{BEGIN}\n{block}\n{END}{text.partition(END)[2]}"


def results() -> str:
    """Return the comparison as a Markdown table, its conditions, and what was done for each recipe."""
    rows = read_csv(COMPARISON, "recipe", "edition")
    shown = readable(rows, COLUMNS, arrows=True)
    cells = [shown[0], ["---", *["---:"] * (len(shown[0]) - 1)], *(row.values() for row in shown)]
    lines = [f"| {' | '.join(line)} |" for line in cells]
    history = read_json(RECIPES, "recipes")["recipes"]
    return "\n".join(
        [*lines, "", _conditions(rows[0]["edition"]), "", *(_steps(row["recipe"], history) for row in rows)]
    )


def _conditions(edition: str) -> str:
    """Return what the numbers of the table are, and on what the latency was measured."""
    timing = read_json(BENCHMARK, *CONDITIONS)
    measured = (
        "Latency: median of {calls_in_all} calls on {threads} thread of {cpu} ({software}), all files in turn in one "
        "process, {blocks} times {calls} calls; its ratio is the median over these turns."
    )
    versions = "ONNX Runtime {onnxruntime}, NumPy {numpy}, Python {python}".format(**timing)
    software = "; ".join(filter(None, [" ".join(timing["instruction_sets"]), versions]))
    told = measured.format(**timing, software=software, calls_in_all=timing["blocks"] * timing["calls"])
    first = f"CIFAR-10, {edition} edition. Accuracy, size and latency are those of the ONNX file that a recipe ends in."
    return textwrap.fill(f"{first} {LEGEND} {told}", WIDTH)


def _steps(recipe: str, history: dict[str, Any]) -> str:
    """Return what was done for ``recipe``, and what a reader should know of it."""
    done = history[recipe]
    told = [*done["steps"], *filter(None, [done["note"]])]
    return textwrap.fill(f"- **{recipe}**: {'; '.join(told)}.", WIDTH, subsequent_indent="  ")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run from the top of the repository") from None


if __name__ == "__main__":
    exit_cleanly(main)
