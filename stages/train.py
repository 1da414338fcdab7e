"""Train VGG16 by the recipe that params.yaml names."""

import contextlib
from pathlib import Path

import torch
import yaml
from pydantic import Field

from src.core.dataset import load_split, load_statistics
from src.core.device import has_bfloat16, pick_device, seed_everything
from src.core.errors import exit_cleanly
from src.core.files import atomic, write_json
from src.core.params import PIPELINE, Settings, Shared, load_params
from src.network.cost import parameters
from src.network.vgg import VGG, ModelSettings, save, vgg16_plan
from src.training import parallel
from src.training.checkpoints import SCRATCH, Checkpoints, fingerprint
from src.training.initialisation import initialise
from src.training.loop import Reporter, Row, Silent, fit
from src.training.schedule import TrainRecipe
from src.training.tracking import Tracker

MODEL = Path("models/vgg16.safetensors")
METRICS = Path("metrics/train.json")
CURVES = Path("plots/training")


class TrainSettings(Settings):
    """The section ``train`` of params.yaml, with the chosen recipe alone."""

    recipe: str
    recipes: dict[str, TrainRecipe]
    target_accuracy: float = Field(gt=0, le=1)
    stop_at_target: bool


class Params(Shared):
    """What this stage reads of params.yaml."""

    model: ModelSettings
    train: TrainSettings


def main() -> None:
    """Train, or go on training, and write the network, its metrics and its curves."""
    params = load_params("train", Params)
    recipe = params.train.recipes[params.train.recipe]
    train, validation, statistics = load_split("train"), load_split("validation"), load_statistics()
    with parallel.joined(pick_device(params.device)) as device:
        seed_everything(params.seed)
        model = VGG(vgg16_plan(params.model), torch.tensor(statistics.mean), torch.tensor(statistics.std))
        model = initialise(model, recipe, train.images).to(device)
        checkpoints = Checkpoints(SCRATCH / "train" / _key(params, device))
        stop_at = params.train.target_accuracy if params.train.stop_at_target else float("inf")
        with _reporter(len(train)) as reporter:
            network, history = fit(model, train, validation, recipe, params.seed, reporter, checkpoints, stop_at)
        if parallel.rank() == 0:
            with atomic(MODEL) as temporary:
                save(network, temporary)
            write_json(METRICS, summary(history, params.train, statistics.edition, parameters(network)))
            checkpoints.clear()


def _reporter(images_per_epoch: int) -> contextlib.AbstractContextManager[Reporter]:
    """The first process tells how the run goes on, the others are silent."""
    if parallel.rank() > 0:
        return contextlib.nullcontext(Silent())
    return contextlib.closing(Tracker(CURVES, "train", images_per_epoch))


def summary(history: list[Row], settings: TrainSettings, edition: str, size: int) -> dict:
    """Headline numbers of a run: accuracy, cost, and where the target was first passed (None if never)."""
    accuracies = [row["val/accuracy"] for row in history]
    target = next((i for i, accuracy in enumerate(accuracies) if accuracy >= settings.target_accuracy), None)
    return {
        "edition": edition,
        "recipe": settings.recipe,
        "parameters": size,
        "epochs": len(history),
        "val_accuracy_best": max(accuracies),
        "val_accuracy_last": accuracies[-1],
        "target_accuracy": settings.target_accuracy,
        "target_reached": target is not None,
        "target_epoch": None if target is None else target + 1,
        "target_pflop": None if target is None else history[target]["pflop"],
        "pflop": history[-1]["pflop"],
    }


def _key(params: Params, device: torch.device) -> str:
    """Fingerprint of all that this stage depends on: params, device, versions, code and data."""
    names = yaml.safe_load(PIPELINE.read_text())["stages"]["train"]["deps"]
    files = [path for name in names for path in sorted(Path(name).glob("*") if Path(name).is_dir() else [Path(name)])]
    machine = [device.type, str(has_bfloat16(device)), str(torch.get_num_threads()), str(parallel.processes())]
    texts = [params.model_dump_json(), torch.__version__, *machine]
    return fingerprint(texts, filter(Path.is_file, files))


if __name__ == "__main__":
    exit_cleanly(main)
