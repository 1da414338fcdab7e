"""How techniques train: by a budget, or, for controls, by the account of the parent."""

import copy
from dataclasses import replace
from typing import Any

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import FineTuned
from src.core.device import seed_everything
from src.network.record import Export, Record
from src.network.vgg import VGG, Plan
from src.training.budget import StepCost, epochs_within
from src.training.initialization import initialize
from src.training.loop import AfterStep, Hooks, Objective, fit
from src.training.recipe import Training

PETA = 1e15


def fine_tune(
    candidate: Candidate,
    network: VGG,
    step: str,
    context: Context,
    settings: FineTuned,
    *notes: str,
    objective: Objective | None = None,
    teacher: VGG | None = None,
    after_step: AfterStep | None = None,
    **export: Any,
) -> Candidate:
    """Return ``candidate`` after ``step``, which made ``network``, and after training it on for ``settings.budget``.

    Accuracies before and after are measured in float32 on the validation set. ``objective``, ``teacher`` and
    ``after_step`` as in `src.training.loop.Hooks`; ``after_step`` is called once more, with progress 1, on the network
    that is kept, because in a moving average of the weights a mask is blurred.
    """
    whole = StepCost(context.root.network, settings.train, len(context.train)).full_epoch
    before = context.validation_accuracy(network)
    hooks = Hooks(objective=objective, teacher=teacher, after_step=after_step)
    tuned, epochs, pflop = _fit(network, settings.train, settings.budget * whole, context, context.seed, hooks)
    if after_step:
        after_step(tuned, 1.0)
    after = context.validation_accuracy(tuned)
    line = f"{step}fine-tuned {epochs_in_words(epochs)}: validation accuracy {before:.4f} -> {after:.4f}"
    return candidate.after(line, tuned, *notes, **export).trained(epochs * len(context.train), pflop)


def train_on(candidate: Candidate, context: Context, training: Training) -> Candidate:
    """Return the root after training it on for what the path of ``candidate`` has spent since the root."""
    network = copy.deepcopy(context.root.network)
    before = context.validation_accuracy(network)
    spent = candidate.record.pflop_after_root * PETA
    tuned, epochs, pflop = _fit(network, training, spent, context, context.seed, Hooks())
    after = context.validation_accuracy(tuned)
    line = f"trained the root on for {epochs_in_words(epochs)}: validation accuracy {before:.4f} -> {after:.4f}"
    return context.root.after(line, tuned).trained(epochs * len(context.train), pflop)


def train_from_scratch(candidate: Candidate, plan: Plan, step: str, context: Context, training: Training) -> Candidate:
    """Return a network of ``plan``, trained from scratch for what the path of ``candidate`` has spent since the root.

    ``candidate``, the parent, gives the normalization, the steps before ``step`` and whether the file is folded; the
    account is that of this training alone. The seed is not that of the root's training, so that a control of the
    root's shape is another network.
    """
    seed, parent = context.seed + 1, candidate.network
    training = training.model_copy(update={"whiten": training.whiten and can_whiten(plan)})
    seed_everything(seed)
    network = VGG(plan, parent.mean, parent.std).to(parent.mean.device)
    network = initialize(network, training, context.train.images)
    spent = candidate.record.pflop_after_root * PETA
    trained, epochs, pflop = _fit(network, training, spent, context, seed, Hooks())
    accuracy = context.validation_accuracy(trained)
    line = f"{step}trained {epochs_in_words(epochs)} from scratch: validation accuracy {accuracy:.4f}"
    before = candidate.record
    record = Record(edition=before.edition, steps=(*before.steps, line), export=Export(fold=before.export.fold))
    return Candidate(trained, record).trained(epochs * len(context.train), pflop)


def can_whiten(plan: Plan) -> bool:
    """Return whether the first filters can be fixed patches of images: 3 x 3, and scaled by a BatchNorm behind them.

    After `factorize` the first convolution may be 1 x 1.
    """
    first = plan.convolutions[0]
    return first.kernel == 3 and first.batch_norm


def epochs_in_words(epochs: int) -> str:
    """Return ``epochs`` with its unit."""
    return f"{epochs} epoch{'s' if epochs > 1 else ''}"


def _fit(
    network: VGG, training: Training, flops: float, context: Context, seed: int, hooks: Hooks
) -> tuple[VGG, int, float]:
    """Train ``network`` in place for about ``flops``; return the network to keep, its epochs, and the PFLOP spent."""
    cost = StepCost(network, training, len(context.train), hooks.teacher)
    epochs = epochs_within(flops, training, cost)
    recipe = training.lasting(epochs)
    with context.interruption() as interrupted:
        hooks = replace(hooks, reporter=context.reporter, checkpoints=context.checkpoints, interrupted=interrupted)
        trained, _ = fit(network, context.train, context.validation, recipe, seed, hooks)
    return trained.eval(), epochs, cost.whole(recipe) / PETA
