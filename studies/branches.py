"""How does compression change the separation of the last layers? python -m studies.branches (make study NAME=branches).

Measures held-out CSI on test from block 3 on, in the trained network and in the networks of recipes, each with centers
of its own from the training images. The networks must be there: `dvc repro compress@NAME` makes one. Writes
studies/results/branches.csv and .png.
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from src.core.files import write_csv
from src.core.recipes import ROOT
from src.data.prepared import PREPARED, Split, load_split
from src.network.record import network_path
from src.network.vgg import load
from src.pictures.style import save_figure
from src.separation.centers import CenterReceiver, SumReceiver
from src.separation.layers import block_ends
from src.separation.stream import stream
from studies.items import Row, computed, results_folder, run
from studies.pictures import separation_of_branches

RESULTS = Path("studies/results/branches.csv")
BRANCHES = {  # of the tree of recipes, each with a title
    "Cut, pruned, trained for long": ("truncated", "shallow", "slim", "retrained"),
    "The shape of retrained from scratch": ("retrained", "scratch"),
    "Half of the channels": ("channels", "channels_magnitude", "channels_csi", "channels_random"),
    "Low rank": ("low_rank",),
    "Single weights": ("sparse", "shared"),
}
FIRST = "conv3_1"  # the first block that is measured


def main() -> None:
    """Compute what is missing, then write the table and the picture."""
    names = dict.fromkeys([ROOT, *chain(*BRANCHES.values())])
    images = [PREPARED / "train.npz", PREPARED / "test.npz"]
    folders = {name: results_folder("branches", [network_path(name), *images]) for name in names}
    train, test = load_split("train"), load_split("test")
    blocks = [block.name for block in load(network_path(ROOT)).plan.features]
    compute = partial(last_layers, blocks=blocks[blocks.index(FIRST) :], train=train, test=test)
    rows = [row for name, folder in folders.items() for row in computed(folder, {name: partial(compute, name)})]
    write_csv(RESULTS, rows)
    save_figure(separation_of_branches(rows, ROOT, BRANCHES), RESULTS.with_suffix(".png"))


def last_layers(name: str, blocks: Sequence[str], train: Split, test: Split) -> list[Row]:
    """Return a row for those of ``blocks`` that the network of the recipe ``name`` has, and one for its logits.

    Centers are from ``train``, and CSI is that of ``test``: ``csi`` of flattened maps, ``csi_pooled`` of maps averaged
    over space. Of a factorized convolution, the last of the thin ones has the name of the block.
    """
    network = load(network_path(name))
    ends = {block: end for block, end in block_ends(network.plan).items() if block in blocks}
    ends |= {"logits": f"classifier.{len(network.classifier) - 1}"}
    sums = SumReceiver(train.labels, network.plan.classes)
    stream(network, train.images, [sums], ends.values(), description="centers")
    centers = sums.centers()
    flattened, pooled = CenterReceiver(test.labels, centers), CenterReceiver(test.labels, centers, pooled=True)
    stream(network, test.images, [flattened, pooled], ends.values(), description="distances")
    csi, csi_pooled = flattened.scores(), pooled.scores()
    return [
        {"recipe": name, "block": block, "csi": csi[end].value, "csi_pooled": csi_pooled[end].value}
        for block, end in ends.items()
    ]


if __name__ == "__main__":
    run(main, __doc__)
