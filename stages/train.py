"""Train the network by the recipe that params.yaml names, or take its weights from elsewhere."""

import contextlib
import hashlib
import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, FiniteFloat

from src.core.device import pick_device, seed_everything, uses_bfloat16
from src.core.errors import UserError
from src.core.files import atomic, write_json
from src.core.params import Settings, Shared, load_params
from src.core.recipes import ROOT
from src.core.signals import interruption
from src.core.stage import run_stage
from src.data.prepared import DatasetInfo, Split, load_info, load_split
from src.network.cost import parameters
from src.network.pretrained import Normalization, load_pretrained
from src.network.record import Record, network_path, save_recorded
from src.network.vgg import VGG, ModelSettings, Plan, vgg_plan
from src.training import parallel
from src.training.checkpoints import SCRATCH, Checkpoints, run_key
from src.training.loop import Hooks, Reporter
from src.training.recipe import TrainRecipe, chosen_recipe
from src.training.run import row_without_training, train
from src.training.tracking import Tracker

METRICS = Path("metrics/train.json")
CURVES = Path("plots/training")
TRAINED = "src/training"  # as train.weights: the weights come from training
PerChannel = Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)]


class TrainSettings(Settings):
    """The section ``train`` of params.yaml, with the chosen recipe alone.

    ``weights``: `TRAINED`, or the file with the weights; then ``weights_mean`` and ``weights_std`` as `load_pretrained`
    takes them.
    """

    weights: str = Field(min_length=1)
    weights_mean: PerChannel | None
    weights_std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)] | None
    recipe: str
    stop_at: float | None = Field(gt=0, le=1)
    defaults: dict[str, Any]
    recipes: dict[str, Any]

    @property
    def normalization(self) -> Normalization:
        """The mean and std that are given."""
        values = {"mean": self.weights_mean, "std": self.weights_std}
        return {name: numbers for name, numbers in values.items() if numbers is not None}


class Params(Shared):
    """What this stage reads from params.yaml."""

    model: ModelSettings
    train: TrainSettings


def main() -> None:
    """Write the network, its metrics and its curves."""
    params = load_params("train", Params)
    settings = params.train
    recipe = chosen_recipe(settings.recipe, settings.defaults, settings.recipes)
    images, validation, info = load_split("train"), load_split("validation"), load_info()
    plan = vgg_plan(params.model, len(info.classes), info.side)
    if settings.weights == TRAINED:
        from_training(params, recipe, plan, images, validation, info)
    else:
        from_elsewhere(params, plan, images, validation, info)


def from_training(
    params: Params, recipe: TrainRecipe, plan: Plan, images: Split, validation: Split, info: DatasetInfo
) -> None:
    """Train the network of ``plan`` by ``recipe``, or resume its training, and publish it."""
    with parallel.joined(pick_device(params.device)) as device, interruption() as interrupted:
        bfloat16 = uses_bfloat16(device, recipe.mixed_precision)
        checkpoints = Checkpoints(SCRATCH / "train" / run_key("train", params.model_dump_json(), device, bfloat16))
        with _reporter(len(images)) as reporter:
            hooks = Hooks(reporter, checkpoints, params.train.stop_at, interrupted=interrupted)
            network, history = train(plan, recipe, images, validation, info, params.seed, device, hooks)
        if parallel.rank() == 0:
            passes, pflop = len(history) * len(images), history[-1]["pflop"]
            record = Record(edition=info.edition, image_passes=passes, pflop=pflop)
            _publish(network, record, "bfloat16" if bfloat16 else "float32", half=True)
            checkpoints.clear()


def from_elsewhere(params: Params, plan: Plan, images: Split, validation: Split, info: DatasetInfo) -> None:
    """Publish the network of ``plan`` with the weights in the file ``train.weights``, with one row of curves.

    Raises `UserError` if they do not fit, or if the loss is not finite with them.
    """
    path, device = Path(params.train.weights), pick_device(params.device)
    seed_everything(params.seed)
    of_data: Normalization = {"mean": info.mean, "std": info.std}
    network = load_pretrained(path, plan, params.train.normalization, of_data).to(device)
    row = row_without_training(network, images.to(device), validation.to(device), params.seed)
    if not math.isfinite(row["val/loss"]):
        raise UserError(f"{path}: with these weights the loss on validation is not finite")
    with contextlib.closing(Tracker("train", len(images), CURVES, first=0)) as tracker:
        tracker.epoch(row)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    note = f"the weights of the root are from elsewhere: {path.name}, SHA-256 {digest[:16]}"
    _publish(network, Record(edition=info.edition, notes=(note,)), "float32", half=False)


def _reporter(images_per_epoch: int) -> contextlib.AbstractContextManager[Reporter]:
    """Return the reporter of this process: the first one reports, the others do not."""
    if parallel.rank() > 0:
        return contextlib.nullcontext(Reporter())
    return contextlib.closing(Tracker("train", images_per_epoch, CURVES))


def _publish(network: VGG, record: Record, precision: str, half: bool) -> None:
    """Write the network with its record, and what the curves do not say; ``half``: matrices in float16."""
    with atomic(network_path(ROOT)) as temporary:
        save_recorded(network, record, temporary, half)
    write_json(METRICS, {"edition": record.edition, "precision": precision, "parameters": parameters(network)})


if __name__ == "__main__":
    run_stage(main)
