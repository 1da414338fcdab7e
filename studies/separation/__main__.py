"""Does separation tell where to cut? python -m studies.separation (or: make study NAME=separation); 75 minutes.

Trains six networks at half width, measures each at its 18 positions, and writes tables and pictures to
studies/results/separation/. Ctrl-C is safe: what is finished is not computed again. README.md beside this file has the
protocol and the hypotheses.
"""

from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from src.core.files import write_csv
from src.core.params import PARAMS, read_yaml
from src.data.prepared import PREPARED, load_info, load_split
from src.network.vgg import ModelSettings, vgg_plan
from src.pictures.style import save_figure
from src.training.recipe import chosen_recipe
from studies.items import Row, computed, results_folder, run
from studies.separation import answers, networks
from studies.separation.measures import SPLITS, Counts, positions
from studies.separation.pictures import bias_by_position, cuts_by_score

RESULTS = Path("studies/results/separation")
RECIPE, WIDTH = "fast", 0.5


def main() -> None:
    """Compute what is missing, then write the tables and the pictures."""
    splits = {name: load_split(name) for name in SPLITS}
    params, images = read_yaml(PARAMS), [PREPARED / f"{name}.npz" for name in SPLITS]
    setup = setup_of(params["train"], splits)
    counts = Counts()
    rows: dict[str, list[Row]] = {}
    for name in networks.NAMES:
        network = networks.network(setup, name)
        folder = results_folder("separation/measures", [setup.file(name), *images])
        rows[name] = computed(folder, {name: partial(positions, name, network, splits, counts)})
    write(rows, counts, params["compress"]["steps"]["truncate"]["epsilon"])


def setup_of(section: dict[str, Any], splits: dict[str, Any]) -> networks.Setup:
    """Return what the networks share; ``section`` is ``train`` of params.yaml."""
    recipe = chosen_recipe(RECIPE, section["defaults"], section["recipes"])
    images = [PREPARED / "train.npz", PREPARED / "validation.npz"]
    folder = results_folder("separation/networks", images, recipe, WIDTH)
    info = load_info()
    plan = vgg_plan(ModelSettings(depth=16, head="compact", width=WIDTH), len(info.classes), info.side)
    return networks.Setup(plan, recipe, splits["train"], splits["validation"], info, folder)


def write(rows: dict[str, list[Row]], counts: Counts, epsilon: float) -> None:
    """Write the tables and pictures that follow from ``rows``, by network; ``epsilon`` is that of a cut."""
    seeds = [f"seed-{seed}" for seed in networks.SEEDS]
    cuts, bias = answers.cuts(rows, seeds, epsilon), answers.bias(rows, counts.per_class)
    of_seeds = [row for row in cuts if row["network"] in seeds]
    means = answers.means(of_seeds, ["score"], answers.PRICES)
    by_position = ["images_a_class", "position", "block"]
    bias_means = answers.means([row for row in bias if row["network"] in seeds], by_position, ["inclusion", "few"])
    tables = {
        "positions": [*chain(*rows.values())],
        "cuts": cuts,
        "cuts_mean": means,
        "loss_against_csi": answers.against(of_seeds, "csi", "loss"),
        "bias": bias,
        "bias_mean": bias_means,
        "flips": answers.flips(rows, counts.per_class, epsilon),
    }
    for name, table in tables.items():
        write_csv(RESULTS / f"{name}.csv", table)
    save_figure(cuts_by_score(tables["positions"], cuts), RESULTS / "cuts.png")
    save_figure(bias_by_position(bias_means), RESULTS / "bias.png")


if __name__ == "__main__":
    run(main, __doc__)
