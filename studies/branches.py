"""How does compression change the separation of the last layers? python -m studies.branches (make study NAME=branches).

Measures held-out CSI on test at the last positions of the trained network and of the networks of recipes, each with
centers of its own from the training images. The networks must be there: `dvc repro compress@NAME` makes one. Writes
studies/results/branches.csv and .png.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from src.analysis.separation.centers import CenterReceiver, SumReceiver
from src.analysis.separation.layers import block_ends
from src.analysis.separation.scores import Scores
from src.analysis.separation.stream import stream
from src.compression.record import network_path
from src.compression.tree import ROOT
from src.core.arrays import CLASSES, PREPARED
from src.core.dataset import Split, load_split
from src.core.errors import exit_cleanly
from src.core.files import write_csv
from src.network.vgg import VGG, load
from src.pictures.branches import separation_of_branches
from src.pictures.style import save_figure
from studies.items import Row, computed, fingerprint

RESULTS = Path("studies/results/branches.csv")
RECIPES = ("truncated", "slim", "channels", "channels_magnitude", "channels_csi", "channels_random")
LAST = 9  # blocks that are measured, and the logits


def main() -> None:
    """Compute what is missing, then write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=RECIPES, help=f"by default {' '.join(RECIPES)}")
    names = [ROOT, *parser.parse_args().recipes]
    images = [PREPARED / "train.npz", PREPARED / "test.npz", Path(__file__)]
    depends_on = {name: fingerprint([network_path(name), *images]) for name in names}
    train, test = load_split("train"), load_split("test")
    rows: list[Row] = []
    for name in names:
        network = load(network_path(name))
        rows += computed("branches", depends_on[name], {name: partial(last_layers, name, network, train, test)})
    write_csv(RESULTS, rows)
    save_figure(separation_of_branches(rows), RESULTS.with_suffix(".png"))


def last_layers(name: str, network: VGG, train: Split, test: Split) -> list[Row]:
    """Return a row for each of the last blocks of ``network`` and its logits: CSI on ``test``, centers by ``train``.

    ``csi`` is that of flattened maps, ``csi_pooled`` that of maps averaged over space.
    """
    ends = dict([*block_ends(network.plan).items()][-LAST:]) | {"logits": f"classifier.{len(network.classifier) - 1}"}
    flattened, pooled = held_out(network, train, test, list(ends.values()))
    return [
        {"recipe": name, "block": block, "csi": flattened[end].value, "csi_pooled": pooled[end].value}
        for block, end in ends.items()
    ]


def held_out(
    network: VGG, train: Split, test: Split, modules: Sequence[str]
) -> tuple[dict[str, Scores], dict[str, Scores]]:
    """Return CSI of ``modules`` on ``test`` with centers of ``train``: of flattened maps, and averaged over space."""
    sums = SumReceiver(train.labels, len(CLASSES))
    stream(network, train.images, [sums], modules, description="centers")
    centers = sums.centers()
    flattened = CenterReceiver(test.labels, centers)
    pooled = CenterReceiver(test.labels, centers, pooled=True)
    stream(network, test.images, [flattened, pooled], modules, description="distances")
    return flattened.scores(), pooled.scores()


if __name__ == "__main__":
    exit_cleanly(main)
