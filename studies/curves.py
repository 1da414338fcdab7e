"""How do accuracy and size trade off? python -m studies.curves (or: make study NAME=curves).

Further operating points of four techniques on the trained network, each with one epoch of fine-tuning where the
technique fine-tunes, by accuracy on validation. Writes studies/results/curves.csv and .png. The picture shows published
results beside them, which started from other networks (data/reference/published.csv has their baselines).
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from src.compression.record import load_candidate, network_path

from src.compression.candidate import Candidate, Context
from src.compression.positions import POSITIONS, separation_by_block
from src.compression.tree import ROOT, SECTION, CompressSettings, compress, recipe_of
from src.core.errors import exit_cleanly
from src.core.files import read_csv, write_csv
from src.core.params import PARAMS, read_yaml, validate
from src.data.prepared import PREPARED, load_split
from src.network.cost import macs, parameters
from src.pictures.curves import accuracy_against_cost
from src.pictures.style import save_figure
from studies.items import Row, computed, fingerprint

RESULTS = Path("studies/results/curves.csv")
PUBLISHED = Path("data/reference/published.csv")
SEED = 0
ONE_EPOCH = {"fine_tune": {"epochs": 1}}
LOWER_RATE = {"fine_tune": {"epochs": 1, "lr_start": 0.0001, "lr_peak": 0.001}}  # as the recipe low_rank
UNIFORM = {"step": "prune_channels", "ranking": "uniform", **ONE_EPOCH}
POINTS: dict[str, dict[str, Any]] = {  # the number in a name is its level in percent
    **{f"taylor-{level}": {**UNIFORM, "importance": "taylor", "ratio": level / 100} for level in (25, 50, 75)},
    **{f"random-{level}": {**UNIFORM, "importance": "random", "ratio": level / 100} for level in (25, 50, 75)},
    **{f"low_rank-{level}": {"step": "factorize", "energy": level / 100, **LOWER_RATE} for level in (90, 70, 50)},
    **{f"truncated-{level}": {"step": "truncate", "epsilon": level / 100} for level in (2, 5, 15)},
}


def main() -> None:
    """Compute what is missing, then write the table and the picture."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    section = read_yaml(PARAMS)[SECTION]
    kept = {"fine_tune": section["fine_tune"], "steps": section["steps"], "points": POINTS}
    files = [network_path(ROOT), PREPARED / "train.npz", PREPARED / "validation.npz", POSITIONS, Path(__file__)]
    root, _ = load_candidate(ROOT)
    context = Context(load_split("train"), load_split("validation"), SEED, separation_by_block())
    rows = computed("curves", fingerprint(files, **kept), items(section, root, context))
    write_csv(RESULTS, rows)
    save_figure(accuracy_against_cost(rows, read_csv(PUBLISHED)), RESULTS.with_suffix(".png"))


def items(section: dict[str, Any], root: Candidate, context: Context) -> dict[str, Callable[[], list[Row]]]:
    """Return what there is to compute: an item for each of `POINTS`, and one for the network as it is.

    ``section`` is the section ``compress`` of params.yaml, whose settings the points change.
    """
    recipes = {name: {"from": ROOT, **point} for name, point in POINTS.items()}
    settings = validate(CompressSettings, section | {"recipes": recipes}, SECTION)
    measured = {name: partial(_measured, settings, name, root, context) for name in recipes}
    return {"none": lambda: [_row("none", root, context)], **measured}


def _measured(settings: CompressSettings, name: str, root: Candidate, context: Context) -> list[Row]:
    return [_row(name, compress(root, recipe_of(settings, name), context), context)]


def _row(name: str, candidate: Candidate, context: Context) -> Row:
    family, _, level = name.partition("-")
    return {
        "family": family,
        "level": level,
        "val_accuracy": context.validation_accuracy(candidate.network),
        "macs": macs(candidate.network),
        "parameters": parameters(candidate.network),
        "image_passes": candidate.image_passes,
        "pflop": candidate.pflop,
    }


if __name__ == "__main__":
    exit_cleanly(main)
