"""The trials of a search, in a journal of Optuna, so that kill -9 loses only steps of the trial that ran.

The seeds of a trial follow from its index. Whoever runs it holds a lock, which the system frees when the process dies.
So what is left to do are the indices without a result and without a holder, also where processes share a search.
"""

import contextlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from scripts.search.shapes import Parameters, Space
from src.compression.tree import CompressSettings, TrainSettings, recipe_of
from src.core.device import pick_device, uses_bfloat16
from src.core.errors import UserError
from src.core.params import PARAMS, Shared, read_yaml, validate
from src.core.recipes import ROOT
from src.core.threads import limit_threads
from src.data.prepared import DatasetInfo, Split, load_info, load_split
from src.network.vgg import VGG, ModelSettings, vgg_plan
from src.techniques.small import plan_with
from src.training.budget import StepCost, epochs_within
from src.training.checkpoints import SCRATCH, Checkpoints, run_key
from src.training.loop import LOWER, Hooks, Reporter
from src.training.loop import Row as Epoch
from src.training.recipe import Training, TrainRecipe
from src.training.run import train

STARTUP = 10  # trials before the sampler learns from them, and at least as many before any is cut short
COMPLETE, PRUNED = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
SAMPLERS = {
    # Trials that a killed process left behind must not count (constant_liar)
    "tpe": lambda seed: optuna.samplers.TPESampler(n_startup_trials=STARTUP, constant_liar=False, seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
Row = dict[str, Any]
optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # what PartialFixedSampler has been since 2021


class Params(Shared):
    """What the search reads from params.yaml."""

    threads: int | None
    model: ModelSettings
    train: TrainSettings
    compress: CompressSettings


class Told(Reporter):
    """Tells Optuna the accuracy on validation after each epoch, and ends the training if its pruner says so."""

    def __init__(self, trial: optuna.Trial, epochs: int, bar: tqdm) -> None:
        self.trial, self.epochs, self.bar = trial, epochs, bar
        self.rows: list[Epoch] = []

    def step(self, epoch: int, done: int, total: int) -> None:
        """Show how far the training is."""
        self.bar.set_postfix_str(f"epoch {epoch} of {self.epochs}, step {done} of {total}")

    def epoch(self, row: Epoch) -> None:
        """Keep and tell ``row``; TrialPruned before the last epoch if the pruner says so."""
        self.rows.append(row)
        self.trial.report(row["val/accuracy"], len(self.rows))
        if len(self.rows) < self.epochs and self.trial.should_prune():
            raise optuna.TrialPruned


@dataclass(frozen=True)
class Search:
    """What all trials share; ``folder`` holds the journal, and ``interrupted()`` says whether to stop."""

    space: Space
    training: Training
    images: Split
    validation: Split
    info: DatasetInfo
    seed: int
    device: torch.device
    folder: Path
    interrupted: Callable[[], bool]

    def run(self, name: str, budget: float, trials: int, known: Callable[[], dict[str, Parameters]]) -> None:
        """Run what is left of the ``trials`` of the study ``name``, and print a line for each.

        The shapes that ``known`` returns by name come first, and are never cut short; a study asks for them once.
        """
        study = optuna.create_study(study_name=name, storage=self.storage, direction="maximize", load_if_exists=True)
        if "known" not in study.user_attrs:
            study.set_user_attr("known", known())
        given = [*study.user_attrs["known"].items()]
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=max(STARTUP, len(given)))
        with tqdm(range(trials), desc=name, unit="trial", disable=None) as bar:
            for index in bar:
                shape = given[index] if index < len(given) else (name, {})
                with contextlib.suppress(Timeout), FileLock(self.folder / f"{name}-{index}.lock", timeout=0):
                    if index not in ended(study):
                        self.attempt(study, index, *shape, budget, bar)
                        row = row_of(study, ended(study)[index])
                        bar.write(", ".join(f"{key} {value}" for key, value in row.items()))

    def attempt(
        self, study: optuna.Study, index: int, origin: str, fixed: Parameters, budget: float, bar: tqdm
    ) -> None:
        """Train the shape that ``study`` proposes, with the parameters ``fixed``, and tell it how that ended.

        A loss that is not finite ends a trial as the pruner does.
        """
        seed = int(np.random.SeedSequence((self.seed, index, *study.study_name.encode())).generate_state(1)[0])
        sampler = SAMPLERS.get(study.study_name, SAMPLERS["random"])(seed)
        study.sampler = optuna.samplers.PartialFixedSampler(fixed, sampler)
        trial = study.ask()
        widths = self.space.suggested(trial)
        plan = plan_with(widths, self.space.root)
        recipe = self.recipe(budget)
        checkpoints = Checkpoints(self.folder / f"{study.study_name}-{index}-{'-'.join(map(str, widths))}")
        told, state = Told(trial, recipe.epochs, bar), COMPLETE
        hooks = Hooks(told, checkpoints, interrupted=self.interrupted)
        try:
            train(plan, recipe, self.images, self.validation, self.info, seed, self.device, hooks)
        except optuna.TrialPruned:
            state = PRUNED
        except UserError as error:
            if not str(error).endswith(LOWER):
                raise
            state = PRUNED
        last = told.rows[-1] if told.rows else {"pflop": 0.0, "val/accuracy": None}
        cost = {"epochs": len(told.rows), "macs": self.space.macs(widths), "pflop": last["pflop"]}
        for key, value in {"index": index, "origin": origin, "widths": widths, **cost}.items():
            trial.set_user_attr(key, value)
        study.tell(trial, last["val/accuracy"] if state == COMPLETE else None, state)
        checkpoints.clear()

    def recipe(self, budget: float) -> TrainRecipe:
        """Return how to train: for ``budget``, in epochs of the trained network, by the cost of the uniform shape.

        So every shape has the same number of epochs.
        """
        uniform = plan_with(self.space.widest([0.0] * self.space.layers[1]), self.space.root)
        with torch.device("meta"):
            plans = (self.space.root, uniform)
            root, own = (StepCost(VGG(plan), self.training, len(self.images)) for plan in plans)
            return self.training.lasting(epochs_within(budget * root.full_epoch, self.training, own))

    @cached_property
    def storage(self) -> optuna.storages.JournalStorage:
        """The journal of all studies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        journal = optuna.storages.journal.JournalFileBackend(str(self.folder / "journal.log"))
        return optuna.storages.JournalStorage(journal)

    def studies(self) -> list[optuna.Study]:
        """Return all studies, by name."""
        names = sorted(optuna.get_all_study_names(self.storage))
        return [optuna.load_study(study_name=name, storage=self.storage) for name in names]


def read_search(limit: int, budget: float, interrupted: Callable[[], bool]) -> Search:
    """Return the search for at most ``limit`` MACs by params.yaml and the prepared images.

    The name of its folder follows from the limit and from all that a trial depends on but the code of the search.
    """
    values = read_yaml(PARAMS)
    params = validate(Params, {key: values[key] for key in Params.model_fields if key in values})
    steps = {step: {"from": ROOT, "step": step} for step in ("small", "prune_channels")}
    section = params.compress.model_copy(update={"recipes": steps})
    small, pruned = (recipe_of(section, params.train.defaults, step).settings for step in steps)
    limit_threads(params.threads)
    device, info = pick_device(params.device), load_info()
    space = Space(vgg_plan(params.model, len(info.classes), info.side), limit, pruned.round_to)
    settings = [params.seed, budget, space.multiple, small.train.model_dump(), params.model.model_dump()]
    key = run_key("train", json.dumps(settings), device, uses_bfloat16(device, small.train.mixed_precision))
    images, validation, folder = load_split("train"), load_split("validation"), SCRATCH / "search" / f"{limit}-{key}"
    return Search(space, small.train, images, validation, info, params.seed, device, folder, interrupted)


def ended(study: optuna.Study) -> dict[int, optuna.trial.FrozenTrial]:
    """Return the trials of ``study`` that have ended, by themselves or by the pruner, by index in order."""
    trials = {trial.user_attrs["index"]: trial for trial in study.get_trials(states=(COMPLETE, PRUNED))}
    return dict(sorted(trials.items()))


def row_of(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> Row:
    """Return the row of ``trial``; its accuracy is that of the last epoch that was trained, None if there was none."""
    told = trial.user_attrs
    row = {"study": study.study_name, "trial": told["index"], "origin": told["origin"]}
    row |= {"state": trial.state.name.lower(), "val_accuracy": trial.value}
    row |= {key: told[key] for key in ("epochs", "macs", "pflop")}
    return row | {"layers": len(told["widths"]), "widths": "-".join(map(str, told["widths"]))}


def spread(studies: list[optuna.Study], shapes: int) -> dict[str, Parameters]:
    """Return the parameters of ``shapes`` of the shapes that were trained, from the worst to the best in even steps.

    Their names are STUDY-INDEX. Raises `UserError` if there are fewer.
    """
    short = [(f"{study.study_name}-{index}", trial) for study in studies for index, trial in ended(study).items()]
    whole = [(name, trial) for name, trial in short if trial.state == COMPLETE and name.split("-")[0] in SAMPLERS]
    if len(whole) < shapes:
        tried = "that this MACS and this BUDGET have tried and not cut short"
        raise UserError(f"LONG: needs {shapes} shapes {tried} (found {len(whole)})")
    whole.sort(key=lambda pair: pair[1].value)
    places = np.linspace(0, len(whole) - 1, shapes).round().astype(int)
    return {name: trial.params for name, trial in (whole[place] for place in places)}
