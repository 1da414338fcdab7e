"""The convolution of a VGG, in the form in which CPUs with AMX train small maps fast."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core.device import has_amx

SMALL = 4  # pixels; from 8 on a strip gains nothing


class Convolution(nn.Conv2d):
    """A convolution of stride 1 that keeps the side of its maps; see `torch.nn.Conv2d`.

    Small maps in bfloat16 on a CPU with AMX go through `convolved_as_strips`, because oneDNN, which PyTorch calls, is
    slow there; perhaps 4 x 4 pixels are too few to fill AMX's tiles.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Return the convolved ``maps``: [N, in, H, W] -> [N, out, H, W]."""
        small = maps.shape[-1] <= SMALL and len(maps) > torch.get_num_threads()
        if small and maps.dtype == torch.bfloat16 and has_amx(maps.device):
            return convolved_as_strips(maps, self.weight, self.bias, int(self.padding[0]))
        return super().forward(maps)


def convolved_as_strips(maps: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """Return ``maps`` [N, in, H, W] convolved with ``weight`` [out, in, 2 * padding + 1, 2 * padding + 1].

    Many maps stand side by side in one long map, with ``padding`` columns of zeros between them. The result
    [N, out, H, W], in channels_last order, is that of `torch.nn.functional.conv2d` but for the order of sums.

    There is a strip for each thread. With fewer, oneDNN reads memory before it is written (PyTorch 2.13, AMX): the
    gradient of the weights then holds NaN now and then.
    """
    (count, channels, height, width), strips = maps.shape, torch.get_num_threads()
    each = -(-count // strips)
    zeros = (0, 0, 0, padding, 0, 0, 0, strips * each - count)  # columns behind each map, and maps for the last strip
    rows = F.pad(maps.permute(0, 2, 3, 1), zeros).unflatten(0, (strips, each)).transpose(1, 2)
    long = rows.reshape(strips, height, -1, channels).permute(0, 3, 1, 2)
    convolved = F.conv2d(long, weight, bias, padding=padding).unflatten(3, (each, -1))[..., :width]
    separate = convolved.permute(0, 3, 1, 2, 4).flatten(0, 1)[:count]
    return separate.contiguous(memory_format=torch.channels_last)
