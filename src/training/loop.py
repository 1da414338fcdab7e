"""The training loop: data on the device, mixed precision, progressive sizes, weight average, checkpoints, resume.

`fit` knows nothing of DVC, of signals or of files to publish. A caller hears of each step and each epoch through a
`Reporter`, and may bring its own objective. Order, augmentation and dropout of every step follow from the seed and
the step's number alone, so that a run that resumes from a checkpoint gives the same bytes as one that was never
interrupted. Under torchrun several processes share each batch (`src.training.parallel`), and all of them come to the
same weights.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from src.core.device import autocast, uses_bfloat16
from src.core.errors import UserError
from src.data.prepared import Split
from src.network.inference import accuracy, predict
from src.network.vgg import VGG, set_dropout
from src.training import parallel
from src.training.batches import DROPOUT, Batches, derived_seed, less_memory
from src.training.budget import StepCost
from src.training.checkpoints import Checkpoints
from src.training.optimizers import Optimizers
from src.training.recipe import TrainRecipe, image_side, learning_rate

LOWER = "try a lower lr_peak"
CHECK_LOSS_EVERY = 20  # steps; reading the loss at each would make a GPU wait
Row = dict[str, float]
Model = Callable[[Tensor], Tensor]  # images [n, 3, side, side] in 0..1 -> logits [n, classes]
Objective = Callable[[Model, Tensor, Tensor], Tensor]
AfterStep = Callable[[VGG, float], None]


class Reporter:
    """Hears how a training run proceeds; this one does nothing with it."""

    def start(self, epochs: int, flops: int, device: torch.device, bfloat16: bool) -> None:
        """A run starts or resumes.

        ``epochs`` are still to do, the one that has begun included, and ``flops`` by each process on its ``device``.
        """

    def step(self, epoch: int, done: int, total: int) -> None:
        """``done`` of the ``total`` steps of ``epoch`` (from 1) have been made."""

    def epoch(self, row: Row) -> None:
        """An epoch has ended; ``row`` holds its losses, accuracies, learning rate, image size and cost."""


@dataclass(frozen=True)
class Hooks:
    """What a caller of `fit` may add.

    ``reporter`` hears of steps and epochs. ``checkpoints`` are written, and read to resume. ``stop_at``: validation
    accuracy after which the run ends early. ``objective(model, images, labels)`` returns the loss of a batch (scalar);
    without one it is cross-entropy with the recipe's label smoothing. ``teacher`` is a network that the objective runs
    on each batch; only its cost matters here. ``after_step(model, progress)`` is called after each step of the
    optimizer, for example to apply a mask. ``progress`` in (0, 1] is the share of the recipe's steps that have been
    made, this one included. What it does must follow from ``model`` and ``progress`` alone, so that a run that resumes
    from a checkpoint gives the same bytes. ``interrupted()`` is asked after each step whether to stop.
    """

    reporter: Reporter = field(default_factory=Reporter)
    checkpoints: Checkpoints | None = None
    stop_at: float | None = None
    objective: Objective | None = None
    teacher: VGG | None = None
    after_step: AfterStep | None = None
    interrupted: Callable[[], bool] = field(default=lambda: False)


@dataclass
class State:
    """How far a run has come: steps and FLOPs made, a row for each whole epoch, and the steps of this epoch.

    ``step_stats`` float32 [steps of an epoch, 2] holds loss and training accuracy of each step of the epoch.
    """

    steps: int
    flops: int
    history: list[Row]
    step_stats: Tensor


def fit(
    model: VGG, train: Split, validation: Split, recipe: TrainRecipe, seed: int, hooks: Hooks | None = None
) -> tuple[VGG, list[Row]]:
    """Train ``model`` in place, on its device; return the network to keep and a row for each epoch.

    The network to keep is the average of the weights if ``recipe`` has one, else ``model``. The run resumes from the
    newest checkpoint in ``hooks.checkpoints``. Raises `UserError` if the loss is not finite or memory is short,
    `ParamsError` if the processes cannot share a batch, and KeyboardInterrupt, after writing a checkpoint, if
    ``hooks.interrupted()`` returns True.
    """
    run = _Run(model, train, validation, recipe, seed, hooks or Hooks())
    run.announce()
    with _memory_advice(recipe, run.batches.batch_size):
        run.save_if_due()
        while not run.finished:
            run.train_step()
            if run.at_epoch_end:
                run.end_epoch()
            stop = parallel.from_first(run.hooks.interrupted())
            run.save_if_due(force=stop)
            if stop:
                raise KeyboardInterrupt(f"interrupted in epoch {run.epoch + 1}, step {run.state.steps} of the run")
    return run.averaged, run.state.history


class _Run:
    """One training run: its fixed parts, and its `State`."""

    def __init__(
        self, model: VGG, train: Split, validation: Split, recipe: TrainRecipe, seed: int, hooks: Hooks
    ) -> None:
        self.device = next(model.parameters()).device
        self.model = model.train()
        self.validation = validation.to(self.device)
        self.recipe, self.seed, self.hooks = recipe, seed, hooks
        self.batches = Batches(train, recipe, seed, self.device)
        self.cost = StepCost(model, recipe, len(train), hooks.teacher)
        self.objective = hooks.objective or _cross_entropy(recipe.label_smoothing)
        self.replica = parallel.replicated(model)
        self.optimizers = Optimizers(model, recipe)
        self.average = _average(model, recipe.ema_decay)
        set_dropout(model, recipe.dropout)
        step_stats = torch.zeros(self.batches.steps_per_epoch, 2, device=self.device)
        self.state = State(steps=0, flops=0, history=[], step_stats=step_stats)
        self.saved_at = time.monotonic()
        _resume(self)

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return len(self.state.history)

    @property
    def at_epoch_end(self) -> bool:
        return self.state.steps == (self.epoch + 1) * self.batches.steps_per_epoch

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or validation accuracy has reached ``stop_at``."""
        target, history = self.hooks.stop_at, self.state.history
        reached = target is not None and bool(history) and history[-1]["val/accuracy"] >= target
        return reached or self.epoch == self.recipe.epochs

    @property
    def averaged(self) -> VGG:
        """The network to keep: with averaged weights where there is an average."""
        return self.average.module if self.average else self.model  # type: ignore[return-value]  # a copy of model

    def announce(self) -> None:
        """Tell the reporter how much is still to do, if the run does not end early."""
        steps = self.batches.steps_per_epoch
        left = range(self.state.steps, self.recipe.epochs * steps)
        sides = (image_side(self.recipe, step // steps, self.batches.full_side) for step in left)
        flops = sum(map(self.cost.flops, sides)) // parallel.processes()
        bfloat16 = uses_bfloat16(self.device, self.recipe.mixed_precision)
        self.hooks.reporter.start(self.recipe.epochs - self.epoch, flops, self.device, bfloat16)

    def train_step(self) -> None:
        """Make one step: a batch, its gradients, the optimizer, the average; then count and report."""
        state, steps_per_epoch = self.state, self.batches.steps_per_epoch
        position = state.steps % steps_per_epoch
        if position == 0:
            state.step_stats.zero_()
        images, labels = self.batches.batch(state.steps)
        state.step_stats[position] = self._gradients(images, labels)
        self.optimizers.step(learning_rate(self.recipe, state.steps / steps_per_epoch))
        if self.hooks.after_step:
            self.hooks.after_step(self.model, (state.steps + 1) / (self.recipe.epochs * steps_per_epoch))
        if self.average:
            self.average.update_parameters(self.model)
        state.steps += 1
        state.flops += self.cost.flops(images.shape[-1])
        if state.steps % CHECK_LOSS_EVERY == 0:
            self._check_loss()
        self.hooks.reporter.step(self.epoch + 1, position + 1, steps_per_epoch)

    def _gradients(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute the gradients of the mean loss, in ``accumulate`` parts; return loss and accuracy [2]."""
        draw = self.state.steps * parallel.processes() + parallel.rank()
        torch.manual_seed(derived_seed(self.seed, DROPOUT, draw))
        parts = self.recipe.accumulate
        stats = torch.zeros(2, device=self.device)
        for index, (part, target) in enumerate(zip(images.chunk(parts), labels.chunk(parts), strict=True)):
            model = _Recorded(self.replica)
            last = index == parts - 1
            with contextlib.nullcontext() if last else parallel.unsynchronized(self.replica):
                with autocast(self.device, self.recipe.mixed_precision):
                    loss = self.objective(model, part, target)
                (loss / parts).backward()
            right = (model.logits.argmax(1) == target).float().mean()
            stats += torch.stack([loss.detach().float(), right]) / parts
        return parallel.mean(stats)

    def end_epoch(self) -> None:
        """Validate, and add the epoch's row to the history; `UserError` if a loss or a weight is not finite."""
        self._check_loss()
        row = parallel.from_first(_epoch_row(self) if parallel.rank() == 0 else None)
        # The losses of training are those before each step, so they say nothing of the weights after the last one
        weights = self.averaged.state_dict().values()
        if not (math.isfinite(row["val/loss"]) and all(bool(tensor.isfinite().all()) for tensor in weights)):
            raise UserError(f"weights or validation loss are not finite after epoch {self.epoch + 1}; {LOWER}")
        self.state.history.append({name: round(value, 6) for name, value in row.items()})
        self.hooks.reporter.epoch(self.state.history[-1])

    def save_if_due(self, force: bool = False) -> None:
        """Write a checkpoint at the end of an epoch, every few minutes, and with ``force``."""
        checkpoints = self.hooks.checkpoints
        if checkpoints is None or parallel.rank() > 0:
            return
        at_boundary = self.state.steps == self.epoch * self.batches.steps_per_epoch
        if force or at_boundary or time.monotonic() - self.saved_at > checkpoints.every_seconds:
            self._check_loss()
            checkpoints.save(self.state.steps, _checkpoint(self))
            self.saved_at = time.monotonic()

    def _check_loss(self) -> None:
        bad = (~self.state.step_stats[:, 0].isfinite()).nonzero()
        if len(bad):
            step = self.epoch * self.batches.steps_per_epoch + int(bad[0]) + 1
            raise UserError(f"the loss is not finite at step {step} (epoch {self.epoch + 1}); {LOWER}")


def _epoch_row(run: _Run) -> Row:
    """Return losses, accuracies, learning rate, image size and cost at the end of an epoch of ``run``.

    Validation uses the weights and the precision of training; the stored file in float32 may differ slightly.
    """
    train_loss, train_accuracy = run.state.step_stats.mean(0).tolist()
    logits = predict(run.averaged, run.validation.images, mixed_precision=run.recipe.mixed_precision)
    labels = run.validation.labels
    return {
        "train/loss": train_loss,
        "train/accuracy": train_accuracy,
        "val/loss": float(F.cross_entropy(logits, labels)),
        "val/accuracy": accuracy(logits, labels),
        "learning_rate": learning_rate(run.recipe, (run.state.steps - 1) / run.batches.steps_per_epoch),
        "image_size": image_side(run.recipe, run.epoch, run.batches.full_side),
        "pflop": run.state.flops / 1e15,
    }


def _checkpoint(run: _Run) -> dict[str, Any]:
    """Return all that is needed to resume ``run`` in another process."""
    return {
        **vars(run.state),
        "model": run.model.state_dict(),
        "optimizers": run.optimizers.state_dict(),
        "average": run.average.state_dict() if run.average else None,
    }


def _resume(run: _Run) -> None:
    """Resume ``run`` from its newest checkpoint, if there is one, and report the epochs that it holds."""
    saved = run.hooks.checkpoints.load(run.device) if run.hooks.checkpoints else None
    if saved is None:
        return
    run.state = State(**{name: saved[name] for name in vars(run.state)})
    run.model.load_state_dict(saved["model"])
    run.optimizers.load_state_dict(saved["optimizers"])
    if run.average:
        run.average.load_state_dict(saved["average"])
    for row in run.state.history:
        run.hooks.reporter.epoch(row)


class _Recorded:
    """A model that keeps the logits it gave last, for the training accuracy."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __call__(self, images: Tensor) -> Tensor:
        self.logits = self.model(images)
        return self.logits


def _cross_entropy(label_smoothing: float) -> Objective:
    def objective(model: Model, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(images), labels, label_smoothing=label_smoothing)

    return objective


def _average(model: VGG, decay: float) -> AveragedModel | None:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None


@contextlib.contextmanager
def _memory_advice(recipe: TrainRecipe, batch_size: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        at_once = batch_size // (recipe.accumulate * parallel.processes())
        advice = less_memory(recipe, batch_size)
        raise UserError(f"out of memory with {at_once} images at a time; {advice}") from None
