"""Compress one network by one technique: the recipe of params.yaml that is named on the command line."""

import contextlib
from typing import Any

from pydantic import Field

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.positions import separation_by_block
from src.compression.tree import CompressSettings, compress, read_tree, recipe_of
from src.core.device import pick_device, seed_everything, uses_bfloat16
from src.core.files import atomic
from src.core.params import Settings, Shared, load_params, recipe_name
from src.core.recipes import ROOT
from src.core.signals import interruption
from src.core.stage import run_stage
from src.core.threads import limit_threads
from src.data.prepared import load_split
from src.network.record import load_recorded, network_path, save_recorded
from src.training.checkpoints import SCRATCH, Checkpoints, run_key
from src.training.tracking import Tracker


class TrainDefaults(Settings):
    """What this stage reads from the section ``train`` of params.yaml."""

    defaults: dict[str, Any]


class Params(Shared):
    """What this stage reads from params.yaml."""

    threads: int | None = Field(ge=1)
    train: TrainDefaults
    compress: CompressSettings


def main() -> None:
    """Check the whole tree, then make the network of one recipe."""
    name = recipe_name("compress", __doc__)
    read_tree()
    params = load_params("compress", Params, key=name)
    limit_threads(params.threads)
    recipe, device = recipe_of(params.compress, params.train.defaults, name), pick_device(params.device)
    seed_everything(params.seed)
    parent, root = (Candidate(*load_recorded(network_path(source), device)) for source in (recipe.parent, ROOT))
    train, validation = load_split("train").to(device), load_split("validation").to(device)
    bfloat16 = recipe.training is not None and uses_bfloat16(device, recipe.training.mixed_precision)
    key = run_key("compress", params.model_dump_json(), device, bfloat16, name)
    checkpoints = Checkpoints(SCRATCH / "compress" / key)
    with contextlib.closing(Tracker(name, len(train))) as reporter:
        separation = separation_by_block()
        context = Context(train, validation, params.seed, root, separation, reporter, checkpoints, interruption)
        candidate = compress(parent, recipe, context)
    made = {"recipe": name, "val_accuracy": context.validation_accuracy(candidate.network)}
    with atomic(network_path(name)) as temporary:
        save_recorded(candidate.network, candidate.record.model_copy(update=made), temporary)
    checkpoints.clear()


if __name__ == "__main__":
    run_stage(main)
