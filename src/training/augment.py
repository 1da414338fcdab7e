"""Flips, crops, cutout and resizing of whole batches, on the device where the images lie."""

import torch
import torch.nn.functional as F
from torch import Tensor


class Crops:
    """Random crops of ``images`` [N, C, H, W], padded with ``padding`` zeros on each side, some of them flipped.

    The padded images are kept twice in memory, as they are and flipped left to right, pixel by pixel (channels
    last). A crop is then H runs of neighboring values, and a batch of crops is one gather of runs.
    """

    def __init__(self, images: Tensor, padding: int) -> None:
        self.padding, self.shape = padding, images.shape
        both = F.pad(torch.stack([images, images.flip(3)]), (padding,) * 4)
        self.side = both.shape[3:]
        values = both.permute(0, 1, 3, 4, 2).flatten()
        run = self.shape[3] * self.shape[1]
        self.runs = values.as_strided((len(values) - run + 1, run), (1, 1))

    def draw(self, chosen: Tensor, flip: Tensor, generator: torch.Generator) -> Tensor:
        """Return where random crops of the images ``chosen`` (int64 [n]) begin, for `cut`: int64 [n] on the CPU.

        Each is uniform over the (2 * padding + 1)^2 positions; ``flip`` (bool [n]) says which to flip left to
        right. ``generator`` is a CPU generator, so that the choices do not depend on the device.
        """
        top, left = torch.randint(2 * self.padding + 1, (2, len(chosen)), generator=generator)
        return self.at(chosen, top, left, flip)

    def at(self, chosen: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
        """Return where the windows at (``top``, ``left``) of the padded images ``chosen`` begin: int64 [n].

        ``chosen``, ``top`` and ``left`` are int64 [n]. The windows in ``flip`` (bool [n]) are flipped left to right.
        """
        left = torch.where(flip, 2 * self.padding - left, left)
        height, width = self.side
        image = chosen + self.shape[0] * flip.long()
        return ((image * height + top) * width + left) * self.shape[1]

    def cut(self, starts: Tensor) -> Tensor:
        """Return the crops that begin at ``starts`` [n]: [n, C, H, W], channels last, on the images' device."""
        _, channels, height, width = self.shape
        rows = torch.arange(height, device=self.runs.device) * (self.side[1] * channels)
        crops = self.runs.index_select(0, (starts.to(rows.device)[:, None] + rows).flatten())
        return crops.view(-1, height, width, channels).permute(0, 3, 1, 2)


def draw_centers(count: int, side: int, generator: torch.Generator) -> Tensor:
    """Return centers (y, x) of squares for `cut_out`, one for each of ``count`` images: int64 [count, 2].

    The images have ``side`` x ``side`` pixels, and each center is uniform over them. ``generator`` is a CPU
    generator, as for `Crops.draw`.
    """
    return torch.randint(side, (count, 2), generator=generator)


def cut_out(images: Tensor, centers: Tensor, side: int) -> Tensor:
    """Return ``images`` [N, C, H, W] with zeros in a square of ``side`` pixels around each of ``centers`` [N, 2].

    The part of a square that lies outside the image is ignored (DeVries & Taylor 2017, arXiv:1708.04552).
    """
    first = centers.to(images.device) - side // 2
    pixels = torch.arange(images.shape[-1], device=images.device)
    within = (pixels >= first[..., None]) & (pixels < first[..., None] + side)  # [N, 2, pixels], rows and columns
    squares = within[:, 0, :, None] & within[:, 1, None, :]
    return images.clone().masked_fill_(squares[:, None], 0)  # a clone keeps the order of channels


def resize(images: Tensor, side: int) -> Tensor:
    """Return float ``images`` [N, C, H, W] as [N, C, side, side], bilinear with anti-aliasing."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
