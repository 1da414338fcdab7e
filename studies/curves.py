"""How do accuracy and size trade off? python -m studies.curves (or: make study NAME=curves).

Further operating points of four techniques on the trained network, by accuracy on validation. Techniques that fine-tune
have a budget of one epoch of the trained network. Writes studies/results/curves.csv and .png.
"""

from functools import partial
from pathlib import Path
from typing import Any

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.positions import POSITIONS, separation_by_block
from src.compression.tree import SECTION, CompressSettings, compress, recipe_of
from src.core.files import write_csv
from src.core.params import PARAMS, read_yaml, validate
from src.core.recipes import ROOT
from src.data.prepared import PREPARED, load_split
from src.network.cost import macs, parameters
from src.network.record import load_recorded, network_path
from src.pictures.style import save_figure
from studies.items import Items, Row, computed, results_folder, run
from studies.pictures import accuracy_against_cost

RESULTS = Path("studies/results/curves.csv")
SEED, BUDGET = 0, 1
UNIFORM = {"step": "prune_channels", "ranking": "uniform"}
POINTS: dict[str, dict[str, Any]] = {  # the number in a name is its level in percent
    **{f"taylor-{level}": {**UNIFORM, "importance": "taylor", "ratio": level / 100} for level in (25, 50, 75)},
    **{f"random-{level}": {**UNIFORM, "importance": "random", "ratio": level / 100} for level in (25, 50, 75)},
    **{f"low_rank-{level}": {"step": "factorize", "energy": level / 100} for level in (90, 70, 50)},
    **{f"truncated-{level}": {"step": "truncate", "epsilon": level / 100} for level in (2, 5, 15)},
}


def main() -> None:
    """Compute what is missing, then write the table and the picture."""
    params = read_yaml(PARAMS)
    inputs = [network_path(ROOT), PREPARED / "train.npz", PREPARED / "validation.npz", POSITIONS]
    settings = [params["train"]["defaults"], params[SECTION]["train"], params[SECTION]["steps"]]
    folder = results_folder("curves", inputs, *settings)
    root = Candidate(*load_recorded(network_path(ROOT)))
    context = Context(load_split("train"), load_split("validation"), SEED, root, separation_by_block())
    rows = computed(folder, items(params, context))
    write_csv(RESULTS, rows)
    save_figure(accuracy_against_cost(rows), RESULTS.with_suffix(".png"))


def items(params: dict[str, Any], context: Context) -> Items:
    """Return what there is to compute: an item for each of `POINTS`, and one for the network as it is.

    ``params`` are those of params.yaml, whose settings the points change.
    """
    recipes = {name: {"from": ROOT, **point} for name, point in POINTS.items()}
    section = validate(CompressSettings, params[SECTION] | {"budget": BUDGET, "recipes": recipes}, SECTION)

    def measured(name: str) -> list[Row]:
        recipe = recipe_of(section, params["train"]["defaults"], name)
        return [_row(name, compress(context.root, recipe, context), context)]

    return {"none": lambda: [_row("none", context.root, context)], **{name: partial(measured, name) for name in POINTS}}


def _row(name: str, candidate: Candidate, context: Context) -> Row:
    family, _, level = name.partition("-")
    return {
        "family": family,
        "level": level,
        "val_accuracy": context.validation_accuracy(candidate.network),
        "macs": macs(candidate.network),
        "parameters": parameters(candidate.network),
        "image_passes": candidate.record.image_passes,
        "pflop": candidate.record.pflop,
    }


if __name__ == "__main__":
    run(main, __doc__)
