"""Flips, crops and resizing of whole batches, on the device where the images lie."""

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, padding: int, generator: torch.Generator, mirror: Tensor | None = None) -> Tensor:
    """Random crops of zero-padded ``images`` [N, C, H, W], each mirrored or not; same shape and dtype.

    Crops are uniform over the (2 * padding + 1)^2 positions. ``mirror`` (bool [N]) says which images to
    flip left to right; without it a fair coin decides. ``generator`` is a CPU generator, so that the
    choices do not depend on the device.
    """
    count = len(images)
    shifts = torch.randint(2 * padding + 1, (2, count), generator=generator).to(images.device)
    if mirror is None:
        mirror = torch.rand(count, generator=generator) < 0.5
    return flip(crop(images, padding, *shifts), mirror.to(images.device))


def crop(images: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """Window of the original size at (``top``, ``left``) [N] of the zero-padded ``images`` [N, C, H, W]."""
    if padding == 0:
        return images
    height, width = images.shape[2:]
    padded = F.pad(images, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def flip(images: Tensor, mirror: Tensor) -> Tensor:
    """``images`` [N, C, H, W] with those marked in ``mirror`` (bool [N]) flipped left to right."""
    return torch.where(mirror.view(-1, 1, 1, 1), images.flip(3), images)


def resize(images: Tensor, side: int) -> Tensor:
    """float ``images`` [N, C, H, W] as [N, C, side, side], bilinear with anti-aliasing."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
