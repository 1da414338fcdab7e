"""Compress one network by one technique: the recipe of params.yaml that is named on the command line."""

import contextlib

import torch

from src.compression.candidate import Context
from src.compression.positions import separation_by_block
from src.compression.record import load_candidate, network_path, save_candidate
from src.compression.tree import ROOT, SHARED, CompressSettings, Recipe, compress, read_tree, recipe_of
from src.core.device import pick_device, seed_everything, uses_bfloat16
from src.core.files import atomic
from src.core.params import Shared, load_params, recipe_name
from src.core.signals import interruption
from src.core.stage import run_stage
from src.data.prepared import load_split
from src.network.vgg import load
from src.training.checkpoints import SCRATCH, Checkpoints, run_key
from src.training.tracking import Tracker


class Params(Shared):
    """What this stage reads of params.yaml."""

    compress: CompressSettings


def main() -> None:
    """Check the whole tree, then make the network of one recipe."""
    name = recipe_name("compress", __doc__)
    read_tree()
    params = load_params("compress", Params, key=name)
    recipe, device = recipe_of(params.compress, name), pick_device(params.device)
    seed_everything(params.seed)
    parent, record = load_candidate(recipe.parent, device)
    train, validation = load_split("train").to(device), load_split("validation").to(device)
    teacher = load(network_path(ROOT), device)
    key = run_key("compress", params.model_dump_json(), device, _in_bfloat16(recipe, device), name)
    checkpoints = Checkpoints(SCRATCH / "compress" / key)
    with contextlib.closing(Tracker(name, len(train))) as reporter:
        separation = separation_by_block()
        context = Context(train, validation, params.seed, separation, teacher, reporter, checkpoints, interruption)
        candidate = compress(parent, recipe, context)
    with atomic(network_path(name)) as temporary:
        save_candidate(candidate, temporary, name, record.edition, context.validation_accuracy(candidate.network))
    checkpoints.clear()


def _in_bfloat16(recipe: Recipe, device: torch.device) -> bool:
    """Return whether the training of ``recipe`` multiplies in bfloat16; False if it has none."""
    trainings = [getattr(recipe.settings, name) for name in SHARED if hasattr(recipe.settings, name)]
    return any(uses_bfloat16(device, settings.mixed_precision) for settings in trainings)


if __name__ == "__main__":
    run_stage(main)
