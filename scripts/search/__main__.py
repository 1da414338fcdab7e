"""Search for the best network within a number of MACs: python -m scripts.search MACS (make search MACS=75e6).

Optuna proposes shapes (`scripts.search.shapes`). Each is trained from scratch as the technique small trains, for a
short budget, and judged by its accuracy on validation; nothing here reads a test image. The first trials are the
uniform shape, a control, and those of the tree. A trial that is worse than the median after an epoch is cut short.
With --sampler random all shapes are random, another control. --long BUDGET trains six of the tried shapes for longer,
and Kendall's tau compares the two orders.

Everything is kept in scratch/search: the next call resumes, or adds trials. Another MACS or BUDGET is another search,
and so is an edit of the code or the settings of training. The same seed gives the same trials, interrupted or not.
Several processes may share a search; what is proposed then depends on which trials are done.
"""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import kendalltau

from scripts.search.shapes import UNIFORM, known_shapes
from src.compression.tree import Recipe, read_tree
from src.core.errors import UserError, exit_cleanly
from src.core.files import write_csv
from src.core.signals import interruption
from src.data.prepared import DatasetInfo
from src.pictures.style import COLORS, new_figure, save_figure, titled

INSTALL = ".venv/bin/python -m pip install -r requirements-search.txt"
COMPARED = 6  # shapes that are trained for longer
CURVES = {"tpe": "blue", "random": "orange"}  # of the picture
Row = Mapping[str, Any]
accuracy = itemgetter("val_accuracy")


def main() -> None:
    """Run the trials that are left; write the table and the picture, and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("macs", help="the most MACs that the network may have")
    parser.add_argument("--trials", default="40")
    parser.add_argument("--sampler", default="tpe", help="tpe or random")
    parser.add_argument("--budget", default="0.25", help="what each trial may cost, in epochs of the trained network")
    parser.add_argument("--long", help="a budget for six of the tried shapes")
    given = parser.parse_args()
    try:
        from scripts.search import trials
    except ImportError:
        raise UserError(f"make search needs Optuna, which is not installed: {INSTALL}") from None
    if given.sampler not in trials.SAMPLERS:
        raise UserError(f"SAMPLER: must be {' or '.join(trials.SAMPLERS)} (found {given.sampler!r})")
    limit, count = (int(number(key, getattr(given, key.lower()), whole=True)) for key in ("MACS", "TRIALS"))
    tree, budget, long = read_tree(), number("BUDGET", given.budget), given.long and number("LONG", given.long)
    with interruption() as interrupted:
        search = trials.read_search(limit, budget, interrupted)
        if long:
            search.run(f"long-{long:g}", long, COMPARED, lambda: trials.spread(search.studies(), COMPARED))
        else:
            known = partial(known_shapes, search.space) if given.sampler == "tpe" else dict
            search.run(given.sampler, budget, count, known)
    rows = [trials.row_of(study, trial) for study in search.studies() for trial in trials.ended(study).values()]
    write_csv(search.folder / "trials.csv", rows)
    save_figure(accuracy_of_trials(rows, limit, search.info), search.folder / "trials.png")
    print("\n".join([f"{search.folder}: trials.csv and trials.png", *lines(rows, tree)]))


def number(key: str, text: str, whole: bool = False) -> float:
    """Return the number in ``text``; `UserError` if it is not positive, or not whole where it must be."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf or (whole and not value.is_integer()):
        raise UserError(f"{key}: must be a positive {'whole ' if whole else ''}number (found {text!r})")
    return value


def accuracy_of_trials(rows: Sequence[Row], limit: int, info: DatasetInfo) -> Figure:
    """Return a figure of the trials of `CURVES` in ``rows``, those of the table; what was cut short is a cross."""
    rows = [row for row in rows if row["val_accuracy"] is not None]
    figure = new_figure(9, 5)
    axes = figure.add_subplot()
    for study, color in CURVES.items():
        for state, marker in (("pruned", "x"), ("complete", "o")):
            own = [row for row in rows if (row["study"], row["state"]) == (study, state)]
            trials, percent = [row["trial"] for row in own], np.array([100 * row["val_accuracy"] for row in own])
            axes.plot(trials, percent, marker, color=COLORS[color], alpha=0.6)
        if trials:
            label = f"{study}, the best so far{' (control)' if study == 'random' else ''}"
            axes.step(trials, np.maximum.accumulate(percent), where="post", color=COLORS[color], label=label)
    for row in rows:
        if row["origin"] == UNIFORM:
            axes.axhline(100 * row["val_accuracy"], color=COLORS["black"], linestyle="--", label="uniform (control)")
    axes.set(xlabel="trial (cross: cut short)", ylabel="accuracy on validation (%)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(titled(f"Shapes of at most {limit:,} MACs after a short training", info))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def lines(rows: Sequence[Row], tree: Mapping[str, Recipe]) -> Iterator[str]:
    """Yield what ``rows`` show: the best of each sampler, the uniform shape, Kendall's tau, the best as a recipe."""
    short = [row for row in rows if not row["study"].startswith("long") and row["state"] == "complete"]
    for name in ("tpe", "random", UNIFORM):
        if own := [row for row in short if name in (row["study"], row["origin"])]:
            best = max(own, key=accuracy)
            yield f"{name}: {accuracy(best):.4f} on validation (trial {best['trial']}, {best['origin']})"
    tried = {f"{row['study']}-{row['trial']}": accuracy(row) for row in short}
    for name in sorted({row["study"] for row in rows if row["study"].startswith("long")}):
        own = [row for row in rows if (row["study"], row["state"]) == (name, "complete")]
        pairs = [(tried[row["origin"]], accuracy(row)) for row in own]
        if len(pairs) == COMPARED:
            tau = kendalltau(*zip(*pairs, strict=True))
            yield f"{name}: Kendall's tau with the short training {tau.statistic:.2f} (p = {tau.pvalue:.2g})"
    if short:
        widths = max(short, key=accuracy)["widths"].replace("-", ", ")
        yield "The best of all, as a line for compress.recipes in params.yaml:"
        yield f"    searched: {{from: {parent(tree)}, step: small, widths: [{widths}]}}"


def parent(tree: Mapping[str, Recipe]) -> str:
    """Return the recipe whose account the best shape should take: that of the controls, else the first that trains."""
    controls = [recipe.parent for recipe in tree.values() if recipe.is_control]
    trained = [recipe.name for recipe in tree.values() if recipe.training and not recipe.settings.leaf]
    return [*controls, *trained, "PARENT"][0]


if __name__ == "__main__":
    exit_cleanly(main)
