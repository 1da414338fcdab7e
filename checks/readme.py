"""Write the results for people: python -m checks.readme [--check].

README.md gets, between its markers, the most important recipes and columns; docs/results.md gets all recipes, the
conditions of the measurement, the minutes that each recipe took, and what was done for it.
"""

import argparse
import math
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from checks.minutes import MINUTES
from scripts.revision import Revision
from src.core.errors import UserError, exit_cleanly
from src.core.files import atomic, read_csv, read_json
from src.core.recipes import DENSE
from src.results.columns import BY_NAME, Row
from src.results.comparison import BENCHMARK, COMPARISON, PAIR_COLUMNS
from src.results.history import RECIPES, own_steps
from src.results.table import ARROWS, CLAIM, data_set, legend, readable

README = Path("README.md")
RESULTS = Path("docs/results.md")
SEEDS, POOLED = Path("studies/results/seeds.csv"), Path("studies/results/seeds-pooled.csv")
WIDTH = 120
CONDITIONS = ("threads", "cpu", "instruction_sets", "onnxruntime", "numpy", "python", "blocks", "calls")
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
LATENCIES = {  # heading, and name in the benchmark
    BY_NAME[column].heading + ARROWS["higher"]: name
    for column, name in (("latency_b1_ratio", "b1"), ("latency_cold_ratio", "b1_cold"), ("latency_b64_ratio", "b64"))
}
COLD = "Cold: each file is called once, and then the next one. 64 x: for 64 images at once."
COST = (
    "PFLOP: of all training, and of what came after the root; equal PFLOP are not equal minutes. Tried: settings "
    "looked at on validation for the recipe or an ancestor, without those for the root (docs/trials.csv); those tried "
    "for several recipes count at one of them."
)
BEFORE = "The list below has accuracies on validation before the export to ONNX."
SHORT = ("recipe", "test_accuracy", "difference_points", "claim", "bytes_ratio", "macs_ratio", "latency_b1_ratio")
FIRST = ("dense", "tuned", "int8", "truncated_int8", "slim_int8", "flagship", "scratch_int8")
LEFT_OUT = {  # of docs/results.md
    *("edition", "parent", "val_accuracy", "difference_low", "difference_high", "nonzero_parameters"),
    *("stored_bytes", "latency_ms_b64", "image_passes"),
}
COLUMNS = [column for column in BY_NAME if column not in LEFT_OUT]


def main() -> None:
    """Bring both files up to date; with ``--check`` only say whether they are, and exit 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the results are stale")
    check = parser.parse_args().check
    rows = read_csv(COMPARISON, "recipe", "edition")
    texts = {README: replace(README.read_text(encoding="utf-8"), short(rows)), RESULTS: whole(rows)}
    for path, text in texts.items():
        if check and not (path.exists() and path.read_text(encoding="utf-8") == text):
            raise UserError(f"{path}: the results differ from {COMPARISON}; run `make readme`")
        if not check:
            with atomic(path) as temporary:
                temporary.write_text(text, encoding="utf-8")


def replace(text: str, block: str) -> str:
    """Return ``text`` with ``block`` between the markers; `UserError` if each marker is not there exactly once."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f"{README}: expected one {BEGIN} and after it one {END}")
    return f"{text.partition(BEGIN)[0]}{BEGIN}\n{block}\n{END}{text.partition(END)[2]}"


def short(rows: Sequence[Row]) -> str:
    """Return the most important rows and columns as a Markdown table, and what they mean."""
    chosen = readable([row for row in rows if row["recipe"] in FIRST], SHORT, arrows=True)
    note = (
        f"{_data(rows)} Difference: percentage points against `tuned` (other recipes with training after the root) or "
        "`dense`, with its 95 % interval over test images. x: times smaller, fewer or faster than `dense`. "
        f"{CLAIM + ' ' if 'claim' in rows[0] else ''}All recipes: [{RESULTS}]({RESULTS})."
    )
    return "\n".join([*_markdown(chosen), "", textwrap.fill(note, WIDTH, break_long_words=False)])


def whole(rows: Sequence[Row]) -> str:
    """Return the page of all recipes: table, conditions, and what was done for each recipe."""
    history = read_json(RECIPES, "recipes")["recipes"]
    sources = f"Written by `make readme` from `{COMPARISON}`, `{BENCHMARK}`, `{RECIPES}` and `{MINUTES}`."
    title = ["# Results", "", textwrap.fill(sources, WIDTH), ""]
    lines = zip(with_intervals(readable(rows, COLUMNS, arrows=True)), spent(rows), strict=True)
    table = _markdown([line | {"minutes ↓": minutes} for line, minutes in lines])
    meaning = _conditions(_data(rows), " ".join([legend(rows), COLD, COST]))
    return "\n".join([*title, *table, "", meaning, "", *pooled(rows), *_steps(rows, history), ""])


def pooled(rows: Sequence[Row]) -> list[str]:
    """Return a paragraph with the differences from dense over several seeds.

    There is none if no seed of the study has the accuracies of ``rows``: then its files are of another run.
    """
    seeds: dict[int, dict[str, float]] = defaultdict(dict)
    for row in read_csv(SEEDS, "seed", "recipe", "test_accuracy") if SEEDS.exists() else []:
        seeds[row["seed"]][row["recipe"]] = row["test_accuracy"]
    accuracies = {row["recipe"]: row["test_accuracy"] for row in rows}
    if not any(measured.items() <= accuracies.items() for measured in seeds.values()):
        return []
    pairs = [pair for pair in read_csv(POOLED, *PAIR_COLUMNS) if pair["reference"] == DENSE]
    told = "; ".join("{recipe} {points:+.2f} [{low:+.2f}, {high:+.2f}]".format(**pair) for pair in pairs)
    what = f"Points against dense, one network, over {len(seeds)} seeds of each recipe, with intervals over both"
    return [textwrap.fill(f"{what} images and seeds (`{POOLED}`): {told}.", WIDTH), ""]


def with_intervals(lines: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return ``lines`` of the table with its interval behind each ratio of latencies, except those of dense."""
    timed = read_json(BENCHMARK, "recipes")["recipes"] | {DENSE: {}}
    return [
        {heading: told + _interval(timed.get(line["recipe"], {}), heading) for heading, told in line.items()}
        for line in lines
    ]


def _interval(timing: Mapping[str, Mapping[str, float]], heading: str) -> str:
    """Return the interval of the ratio under ``heading``, if there is one in ``timing``, that of a recipe."""
    latency = timing.get(LATENCIES.get(heading, ""))
    return f" [{latency['ratio_low']:.2f}, {latency['ratio_high']:.2f}]" if latency else ""


def spent(rows: Sequence[Row]) -> list[str]:
    """Return the minutes that the stages of each recipe took, without those of its parents; "" if not known."""
    minutes = {row["stage"]: row["minutes"] for row in read_csv(MINUTES, "stage", "minutes")}
    stages = [[f"{stage}@{row['recipe']}" for stage in ("compress", "export", "test")] for row in rows]
    # fsum: sum() rounds differently from Python 3.12 on
    return [f"{math.fsum(map(minutes.get, own)):.1f}" if minutes.keys() >= set(own) else "" for own in stages]


def _markdown(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the lines of a Markdown table; each of ``rows`` maps headings to cells."""
    cells = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *(row.values() for row in rows)]
    return [f"| {' | '.join(line)} |" for line in cells]


def _data(rows: Sequence[Row]) -> str:
    return data_set(Revision().dataset(), rows)


def _conditions(data: str, meaning: str) -> str:
    """Return what the numbers of the table are, and on what the latency was measured."""
    timing = read_json(BENCHMARK, *CONDITIONS)
    measured = (
        "Latency: median of {calls_in_all} calls on {threads} thread of {cpu} ({software}), all files in turn in one "
        "process, {blocks} times {calls} calls; its ratio is the median over these turns, with a 95 % interval over "
        "them. Minutes: of the stages compress, export and test of the recipe, without its parents, on {machines}."
    )
    versions = "ONNX Runtime {onnxruntime}, NumPy {numpy}, Python {python}".format(**timing)
    software = "; ".join(filter(None, [" ".join(timing["instruction_sets"]), versions]))
    machines = " and ".join(dict.fromkeys(row["machine"] for row in read_csv(MINUTES, "machine")))
    calls_in_all = timing["blocks"] * timing["calls"]
    told = measured.format(**timing, software=software, calls_in_all=calls_in_all, machines=machines)
    first = f"{data} Accuracy, size and latency are those of the ONNX file that a recipe ends in."
    return textwrap.fill(f"{first} {meaning} {told} {BEFORE}", WIDTH)


def _steps(rows: Sequence[Row], history: dict[str, Any]) -> list[str]:
    """Return what was done for each recipe after its parent, and what a reader should know of it.

    Recipes for which the same was done share a line.
    """
    recipes = defaultdict(list)
    for recipe, parent in ((row["recipe"], row["parent"]) for row in rows):
        told = [*own_steps(recipe, parent, history), *filter(None, [history[recipe]["note"]])]
        recipes["; ".join(told)].append(f"**{recipe}** (from {parent})")
    lines = (f"- {', '.join(names)}: {told}." for told, names in recipes.items())
    return [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines]


if __name__ == "__main__":
    exit_cleanly(main)
