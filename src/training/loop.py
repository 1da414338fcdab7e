"""The fit loop: data on the device, mixed precision, progressive sizes, EMA, checkpoint and resume.

It knows nothing of DVC or of files to publish: a caller hears of each step and each epoch through a
`Reporter`. Order, augmentation and dropout of every step follow from the seed and the step's number alone, so
a run that goes on from a checkpoint gives the same bytes as one that was never interrupted. Under torchrun
several processes share each batch (`src.training.parallel`), and all of them come to the same weights.
"""

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from src.core.dataset import Split
from src.core.device import autocast
from src.core.errors import ParamsError, UserError
from src.network.cost import FLOPS_PER_MAC_TRAINING, macs, parameters
from src.network.inference import accuracy, predict, to_unit
from src.network.vgg import VGG, set_dropout
from src.training import parallel
from src.training.augment import Crops, resize
from src.training.checkpoints import Checkpoints
from src.training.optimizers import Optimizers
from src.training.schedule import TrainRecipe, image_size, learning_rate

CHECK_LOSS_EVERY = 20  # steps; reading the loss at each would make a GPU wait
Row = dict[str, float]


class Reporter(Protocol):
    """Who hears how a training run goes on."""

    def step(self, epoch: int, done: int, total: int) -> None:
        """``done`` of the ``total`` steps of ``epoch`` (from 1) have been made."""

    def epoch(self, row: Row) -> None:
        """An epoch has ended; ``row`` holds its losses, accuracies, learning rate, image size and cost."""


class Silent:
    """A `Reporter` that says nothing."""

    def step(self, epoch: int, done: int, total: int) -> None:
        """Nothing."""

    def epoch(self, row: Row) -> None:
        """Nothing."""


def fit(
    model: VGG,
    train: Split,
    validation: Split,
    recipe: TrainRecipe,
    seed: int,
    reporter: Reporter,
    checkpoints: Checkpoints | None = None,
    stop_at: float = math.inf,
) -> tuple[VGG, list[Row]]:
    """Train ``model``, where its parameters lie, and return the network to keep with a row for each epoch.

    Stops early after the epoch whose validation accuracy reaches ``stop_at``. Goes on from the newest of
    ``checkpoints``. Raises `UserError` on a loss that is not finite and on lack of memory, `ParamsError` on a
    batch that the processes cannot share, and KeyboardInterrupt, once a checkpoint is written, on Ctrl-C.
    """
    run = _Run(model, train, validation, recipe, seed, reporter, checkpoints)
    with _interruption() as interrupted, _memory_advice(recipe):
        run.save_if_due(force=False)
        while run.epoch < recipe.epochs and not run.reached(stop_at):
            run.one_step()
            if run.at_epoch_end:
                run.end_epoch()
            stop = parallel.from_first(bool(interrupted))
            run.save_if_due(force=stop)
            if stop:
                raise KeyboardInterrupt(f"interrupted in epoch {run.epoch + 1}, step {run.steps} of the run")
    return run.kept, run.history


class _Run:
    """The state of one training run, and the verbs that move it on."""

    def __init__(
        self,
        model: VGG,
        train: Split,
        validation: Split,
        recipe: TrainRecipe,
        seed: int,
        reporter: Reporter,
        checkpoints: Checkpoints | None,
    ) -> None:
        self.device = next(model.parameters()).device
        self.model = model.train()
        self.validation = validation.to(self.device)
        self.crops = Crops(train.images.to(_gathering(self.device)), recipe.crop_padding)
        self.labels = train.labels
        self.recipe, self.seed, self.reporter, self.checkpoints = recipe, seed, reporter, checkpoints
        self.batch_size = min(recipe.batch_size, len(train))
        self.steps_per_epoch = len(train) // self.batch_size
        self._check_shares()
        self.macs = {phase.size: macs(model, phase.size) for phase in recipe.phases}
        self.replica = parallel.replicated(model)
        self.optimizers = Optimizers(model, recipe)
        self.ema = _ema(model, recipe.ema_decay)
        set_dropout(model, recipe.dropout)
        self.steps, self.flops, self.history = 0, 0, []
        self.seen = torch.zeros(self.steps_per_epoch, 2, device=self.device)  # loss and accuracy of each step
        self.saved_at = time.monotonic()
        self._resume()

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return len(self.history)

    @property
    def at_epoch_end(self) -> bool:
        return self.steps == (self.epoch + 1) * self.steps_per_epoch

    @property
    def kept(self) -> VGG:
        """The network to keep: the average where there is one."""
        return self.ema.module if self.ema else self.model

    def reached(self, accuracy: float) -> bool:
        """Whether validation accuracy stood at ``accuracy`` or above after the last epoch."""
        return bool(self.history) and self.history[-1]["val/accuracy"] >= accuracy

    def one_step(self) -> None:
        step = self.steps % self.steps_per_epoch
        if step == 0:
            self.seen.zero_()
        size = image_size(self.recipe, self.epoch)
        order = _order(len(self.labels), self.seed, self.epoch)
        chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
        mirror = _mirror(self.recipe.mirror, len(self.labels), self.seed, self.epoch)[chosen]
        starts = self.crops.draw(chosen, mirror, _generator(self.seed, 2, self.steps))
        images = self.crops.cut(parallel.share(starts)).to(self.device)
        labels = self.labels[parallel.share(chosen)].to(self.device)
        self.seen[step] = self._backward(resize(to_unit(images), size), labels)
        self.optimizers.step(learning_rate(self.recipe, self.steps / self.steps_per_epoch))
        if self.ema:
            self.ema.update_parameters(self.model)
        self.steps += 1
        self.flops += self._flops(size)
        if self.steps % CHECK_LOSS_EVERY == 0:
            self._check_loss()
        self.reporter.step(self.epoch + 1, step + 1, self.steps_per_epoch)

    def end_epoch(self) -> None:
        self._check_loss()
        row = parallel.from_first(self._row() if parallel.rank() == 0 else None)
        self.history.append({name: round(value, 6) for name, value in row.items()})
        self.reporter.epoch(self.history[-1])

    def _row(self) -> Row:
        """Losses, accuracies, learning rate, image size and cost at the end of an epoch.

        Validation is by the weights and the precision of training: float32 on the stored file may differ slightly.
        """
        train_loss, train_accuracy = self.seen.mean(0).tolist()
        logits = predict(self.kept, self.validation.images, mixed_precision=self.recipe.mixed_precision)
        labels = self.validation.labels
        return {
            "train/loss": train_loss,
            "train/accuracy": train_accuracy,
            "val/loss": float(F.cross_entropy(logits, labels)),
            "val/accuracy": accuracy(logits, labels),
            "learning_rate": learning_rate(self.recipe, (self.steps - 1) / self.steps_per_epoch),
            "image_size": image_size(self.recipe, self.epoch),
            "pflop": self.flops / 1e15,
        }

    def save_if_due(self, force: bool) -> None:
        """Write a checkpoint at the end of an epoch, every few minutes, and when told to."""
        if self.checkpoints is None or parallel.rank() > 0:
            return
        at_boundary = self.steps == self.epoch * self.steps_per_epoch
        if force or at_boundary or time.monotonic() - self.saved_at > self.checkpoints.every_seconds:
            self._check_loss()
            self.checkpoints.save(self.steps, self._state())
            self.saved_at = time.monotonic()

    def _check_shares(self) -> None:
        parts = parallel.processes() * self.recipe.accumulate
        if self.batch_size % parts or self.batch_size < 2 * parts:  # BatchNorm needs two images
            raise ParamsError(
                f"params.yaml: batch_size {self.batch_size}: must be a multiple of processes x accumulate ({parts}) "
                "and hold two images for each"
            )

    def _backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Gradients of the mean loss over the batch, in ``accumulate`` parts; the batch's loss and accuracy [2]."""
        torch.manual_seed(_mixed(self.seed, 3, self.steps * parallel.processes() + parallel.rank()))  # of dropout
        parts = self.recipe.accumulate
        seen = torch.zeros(2, device=self.device)
        for index, (part, target) in enumerate(zip(images.chunk(parts), labels.chunk(parts), strict=True)):
            last = index == parts - 1
            with contextlib.nullcontext() if last else parallel.unsynchronised(self.replica):
                with autocast(self.device, self.recipe.mixed_precision):
                    logits = self.replica(part)
                    loss = F.cross_entropy(logits, target, label_smoothing=self.recipe.label_smoothing)
                (loss / parts).backward()
            seen += torch.stack([loss.detach().float(), (logits.argmax(1) == target).float().mean()]) / parts
        return parallel.mean(seen)

    def _flops(self, size: int) -> int:
        """FLOPs of a step: network forward and backward, the optimiser's matrix products, the average."""
        network = FLOPS_PER_MAC_TRAINING * self.macs[size] * self.batch_size
        average = 3 * parameters(self.model) if self.ema else 0
        return network + self.optimizers.flops_per_step + average

    def _check_loss(self) -> None:
        bad = (~self.seen[:, 0].isfinite()).nonzero()
        if len(bad):
            step = self.epoch * self.steps_per_epoch + int(bad[0]) + 1
            raise UserError(f"the loss is not finite at step {step} (epoch {self.epoch + 1}); try a lower lr_peak")

    def _state(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "flops": self.flops,
            "history": self.history,
            "seen": self.seen,
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
        }

    def _resume(self) -> None:
        state = self.checkpoints.load(self.device) if self.checkpoints else None
        if state is None:
            return
        self.steps, self.flops, self.history = state["steps"], state["flops"], state["history"]
        self.seen = state["seen"]
        self.model.load_state_dict(state["model"])
        self.optimizers.load_state_dict(state["optimizers"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        for row in self.history:
            self.reporter.epoch(row)


def _ema(model: VGG, decay: float) -> AveragedModel | None:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None


def _gathering(device: torch.device) -> torch.device:
    """Where crops are cut: on ``device``, but for Apple's, which cannot gather from overlapping views."""
    return torch.device("cpu") if device.type == "mps" else device


@lru_cache(maxsize=1)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    """int64 [count]: the images in the order of ``epoch``."""
    return torch.randperm(count, generator=_generator(seed, 1, epoch))


@lru_cache(maxsize=1)
def _mirror(how: str, count: int, seed: int, epoch: int) -> Tensor:
    """bool [count]: images to mirror in ``epoch``: none, by coins anew, or the other ones than the epoch before."""
    if how == "never":
        return torch.zeros(count, dtype=torch.bool)
    thrown = epoch if how == "random" else 0
    coins = torch.rand(count, generator=_generator(seed, 0, thrown)) < 0.5
    return coins ^ bool(how == "alternate" and epoch % 2)


def _generator(seed: int, stream: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(_mixed(seed, stream, number))


def _mixed(seed: int, stream: int, number: int) -> int:
    """A seed for the ``number``-th draw of one of eight independent streams."""
    return (seed * 8 + stream) * 1_000_003 + number


@contextlib.contextmanager
def _interruption() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C or SIGTERM arrives; a second one stops at once."""
    received: list[int] = []

    def note(number: int, _: object) -> None:
        if received:
            raise KeyboardInterrupt("interrupted twice")
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _memory_advice(recipe: TrainRecipe) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        at_once = recipe.batch_size // (recipe.accumulate * parallel.processes())
        raise UserError(
            f"out of memory with {at_once} images at a time; set batch_size to {recipe.batch_size // 2}, "
            f"or accumulate to {2 * recipe.accumulate}, which computes each batch in smaller parts"
        ) from None
