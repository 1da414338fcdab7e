"""Running a network over a set of images."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from src.core.device import MixedPrecision, autocast
from src.core.progress import progress


def to_unit(images: Tensor) -> Tensor:
    """Return uint8 images [N, 3, H, W] as float32 in 0..1, channels last."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into evaluation mode; at the end, whatever happens, it is in the mode in which it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@torch.no_grad()
def predict(
    model: nn.Module,
    images: Tensor,
    batch_size: int = 500,
    mixed_precision: MixedPrecision = False,
    description: str | None = None,
) -> Tensor:
    """Return float32 logits [N, classes] of uint8 ``images`` [N, 3, H, W], in evaluation mode.

    With a ``description`` the progress is shown under this name.
    """
    with evaluating(model), autocast(images.device, mixed_precision):
        batches = images.split(batch_size)
        shown = progress(batches, len(batches), description)
        return torch.cat([model(to_unit(batch)).float() for batch in shown])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of ``labels`` [N] that are the class of the largest of ``logits`` [N, classes]."""
    return int((logits.argmax(1) == labels).sum()) / len(labels)
