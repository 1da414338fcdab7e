"""Running a network over a set of images."""

import torch
from torch import Tensor, nn

from src.core.device import MixedPrecision, autocast
from src.core.progress import progress


def to_unit(images: Tensor) -> Tensor:
    """Return uint8 images [N, 3, H, W] as float32 in 0..1, channels last."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)


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
    training = model.training
    model.eval()
    with autocast(images.device, mixed_precision):
        batches = images.split(batch_size)
        shown = progress(batches, len(batches), description)
        logits = torch.cat([model(to_unit(batch)).float() for batch in shown])
    model.train(training)
    return logits


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of ``labels`` [N] that are the class of the largest of ``logits`` [N, classes]."""
    return int((logits.argmax(1) == labels).sum()) / len(labels)
