"""Train VGG16 by the recipe that params.yaml names."""

import contextlib
from pathlib import Path
from typing import Any

from pydantic import Field

from src.core.device import pick_device, uses_bfloat16
from src.core.files import atomic, write_json
from src.core.params import Settings, Shared, load_params
from src.core.recipes import ROOT
from src.core.signals import interruption
from src.core.stage import run_stage
from src.data.prepared import load_info, load_split
from src.network.cost import parameters
from src.network.record import Record, network_path, save_recorded
from src.network.vgg import VGG, ModelSettings, vgg16_plan
from src.training import parallel
from src.training.checkpoints import SCRATCH, Checkpoints, run_key
from src.training.loop import Hooks, Reporter, Row
from src.training.recipe import chosen_recipe
from src.training.run import train
from src.training.tracking import Tracker

METRICS = Path("metrics/train.json")
CURVES = Path("plots/training")


class TrainSettings(Settings):
    """The section ``train`` of params.yaml, with the chosen recipe alone."""

    recipe: str
    stop_at: float | None = Field(gt=0, le=1)
    defaults: dict[str, Any]
    recipes: dict[str, Any]


class Params(Shared):
    """What this stage reads from params.yaml."""

    model: ModelSettings
    train: TrainSettings


def main() -> None:
    """Train, or resume training, and write the network, its metrics and its curves."""
    params = load_params("train", Params)
    settings = params.train
    recipe = chosen_recipe(settings.recipe, settings.defaults, settings.recipes)
    images, validation, info = load_split("train"), load_split("validation"), load_info()
    with parallel.joined(pick_device(params.device)) as device, interruption() as interrupted:
        bfloat16 = uses_bfloat16(device, recipe.mixed_precision)
        checkpoints = Checkpoints(SCRATCH / "train" / run_key("train", params.model_dump_json(), device, bfloat16))
        with _reporter(len(images)) as reporter:
            hooks = Hooks(reporter, checkpoints, settings.stop_at, interrupted=interrupted)
            plan = vgg16_plan(params.model)
            network, history = train(plan, recipe, images, validation, info, params.seed, device, hooks)
        if parallel.rank() == 0:
            _publish(network, history, info.edition, len(images), "bfloat16" if bfloat16 else "float32")
            checkpoints.clear()


def _reporter(images_per_epoch: int) -> contextlib.AbstractContextManager[Reporter]:
    """Return the reporter of this process: the first one reports, the others do not."""
    if parallel.rank() > 0:
        return contextlib.nullcontext(Reporter())
    return contextlib.closing(Tracker("train", images_per_epoch, CURVES))


def _publish(network: VGG, history: list[Row], edition: str, images: int, precision: str) -> None:
    """Write the network with its record, and what the curves do not say."""
    record = Record(edition=edition, image_passes=len(history) * images, pflop=history[-1]["pflop"])
    with atomic(network_path(ROOT)) as temporary:
        save_recorded(network, record, temporary, half=True)
    write_json(METRICS, {"edition": edition, "precision": precision, "parameters": parameters(network)})


if __name__ == "__main__":
    run_stage(main)
