"""Write the results into README.md between their markers: python -m scripts.readme [--check]."""

import argparse
from pathlib import Path
from typing import Any

from scripts.table import engineering, times
from src.core.errors import UserError, exit_cleanly
from src.core.files import atomic, read_csv, read_json
from src.report.comparison import COMPARISON, RECIPES

README = Path("README.md")
METRICS = Path("metrics")
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
HEADINGS = ("Recipe", "Test accuracy", "Points below dense", "Parameters", "MACs", "ONNX file", "Latency, batch of 1")


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
    rows = read_csv(COMPARISON)
    cells = [HEADINGS, ["---", *["---:"] * (len(HEADINGS) - 1)], *map(_cells, rows)]
    lines = [f"| {' | '.join(line)} |" for line in cells]
    history = read_json(RECIPES)["recipes"]
    return "\n".join([*lines, "", _conditions(rows), "", *(_steps(row["recipe"], history) for row in rows)])


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["recipe"],
        f"{100 * row['test_accuracy']:.2f} %",
        f"{row['accuracy_drop_points']:z.2f}",
        engineering(row["parameters"]),
        f"{engineering(row['macs'])} ({times(row['macs_ratio'])}x)",
        f"{engineering(row['bytes'], 'B')} ({times(row['bytes_ratio'])}x)",
        f"{row['latency_ms_b1']:.2f} ms ({times(row['latency_b1_ratio'])}x)",
    ]


def _conditions(rows: list[dict[str, Any]]) -> str:
    timings = [read_json(METRICS / "benchmark" / f"{row['recipe']}.json") for row in rows]
    machines = dict.fromkeys(
        "{runs} runs on {threads} thread of {cpu} (ONNX Runtime {onnxruntime}, NumPy {numpy}, Python {python})".format(
            **timing
        )
        for timing in timings
    )
    return (
        f"CIFAR-10, {rows[0]['edition']} edition. Accuracy, size and latency are those of the ONNX file that a recipe "
        "ends in. In brackets: how many times fewer or faster than dense in this run. Points below dense: 100 x (test "
        "accuracy of dense - test accuracy of the recipe), negative where the recipe does better. "
        f"Latency: median of {'; '.join(machines)}, each run next to one of dense; the ratio is the median over such "
        "pairs, not the quotient of two rows of this column."
    )


def _steps(recipe: str, history: dict[str, Any]) -> str:
    """Return what was done for ``recipe``, and what a reader should know of it."""
    done = history[recipe]
    told = [*done["steps"], *filter(None, [done["note"]])]
    return f"- **{recipe}**: {'; '.join(told)}."


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run from the top of the repository") from None


if __name__ == "__main__":
    exit_cleanly(main)
