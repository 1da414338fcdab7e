"""How long must one fine-tune, and does it change the ranks? python -m studies.budgets (make study NAME=budgets).

Half of the channels of every layer by magnitude and by chance, the same widths from scratch, and low rank: accuracy on
validation for each of several budgets, in epochs of the trained network. Networks that the tree has made with the same
budget are taken from there. Writes studies/results/budgets.csv and .png; about 2.2 PFLOP.
"""

from functools import partial
from pathlib import Path
from typing import Any

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.training import PETA, train_from_scratch
from src.compression.tree import SECTION, CompressSettings, Recipe, check, compress
from src.core.device import pick_device
from src.core.files import write_csv
from src.core.params import PARAMS, read_yaml, validate
from src.core.recipes import DENSE, ROOT
from src.data.prepared import PREPARED, load_split
from src.network.cost import macs
from src.network.record import load_recorded, network_path
from src.pictures.style import save_figure
from src.techniques.prune_channels import prune
from src.training.budget import StepCost
from studies.items import Items, Row, computed, results_folder, run
from studies.pictures import accuracy_against_budget

RESULTS = Path("studies/results/budgets.csv")
SEED = 0
BUDGETS = (0.5, 1.0, 2.0, 4.0)
UNIFORM = {"from": ROOT, "step": "prune_channels", "ranking": "uniform"}
FAMILIES: dict[str, dict[str, Any]] = {
    "magnitude": {**UNIFORM, "importance": "magnitude"},
    "random": {**UNIFORM, "importance": "random"},
    "scratch": {"from": "magnitude", "step": "reinitialize"},
    "low_rank": {"from": ROOT, "step": "factorize"},
}
IN_TREE = {"magnitude": "channels_magnitude", "random": "channels_random", "low_rank": "low_rank"}  # family: recipe


def main() -> None:
    """Compute what is missing, then write the table and the picture."""
    params = read_yaml(PARAMS)
    inputs = [*map(network_path, (ROOT, *IN_TREE.values())), PREPARED / "train.npz", PREPARED / "validation.npz"]
    settings = [params["train"]["defaults"], params[SECTION]["train"], params[SECTION]["steps"]]
    device = pick_device(params["device"])
    root = Candidate(*load_recorded(network_path(ROOT), device))
    context = Context(load_split("train").to(device), load_split("validation").to(device), SEED, root)
    rows = computed(results_folder("budgets", inputs, *settings), items(params, context))
    write_csv(RESULTS, rows)
    save_figure(accuracy_against_budget(rows), RESULTS.with_suffix(".png"))


def items(params: dict[str, Any], context: Context) -> Items:
    """Return what there is to compute: an item for each of `FAMILIES` and `BUDGETS`.

    ``params`` are those of params.yaml, whose settings the families change.
    """
    recipes = {DENSE: {"from": ROOT, "step": "keep"}, **FAMILIES}

    def measured(family: str, budget: float) -> list[Row]:
        section = validate(CompressSettings, params[SECTION] | {"budget": budget, "recipes": recipes}, SECTION)
        tree = check(section, params["train"]["defaults"])
        if family in IN_TREE and budget == params[SECTION]["budget"]:
            made = Candidate(*load_recorded(network_path(IN_TREE[family]), context.train.images.device))
        elif family == "scratch":
            made = from_scratch(tree, budget, context)
        else:
            made = compress(context.root, tree[family], context)
        accuracy, spent = context.validation_accuracy(made.network), made.record.pflop_after_root
        cost = {"macs": macs(made.network), "pflop": spent}
        return [{"family": family, "budget": budget, "val_accuracy": accuracy, **cost}]

    return {f"{family}-{budget:g}": partial(measured, family, budget) for family in FAMILIES for budget in BUDGETS}


def from_scratch(tree: dict[str, Recipe], budget: float, context: Context) -> Candidate:
    """Return the widths of the family magnitude, trained from scratch for ``budget`` epochs of the trained network."""
    chosen: Any = tree["magnitude"].settings
    shape = prune(context.root.network, context.sample(chosen.importance_images), chosen, SEED)
    epoch = StepCost(context.root.network, chosen.train, len(context.train)).full_epoch / PETA
    parent = context.root.after("half of the channels by magnitude", shape).trained(0, budget * epoch)
    training: Any = tree["scratch"].settings
    return train_from_scratch(parent, shape.plan, "the same widths, ", context, training.train)


if __name__ == "__main__":
    run(main, __doc__)
