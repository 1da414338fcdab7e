"""Temperature scaling: probabilities that say how often a network is right.

Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599). All logits are divided by one number,
fitted on validation. No predicted class changes.
"""

import copy
import math

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from src.network.vgg import VGG

BOUNDS = (0.25, 4.0)  # where every image is classified correctly, the best temperature would be 0


def fitted_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature, within `BOUNDS`, by which ``logits`` [N, classes] have the lowest cross-entropy.

    ``labels``: the true classes, int64 [N]. It is rounded to hundredths, so that the last bits of the logits, which
    depend on the number of threads, do not change it.
    """
    logits, labels = logits.cpu().double(), labels.cpu()

    def loss(logarithm: float) -> float:
        return float(F.cross_entropy(logits / math.exp(logarithm), labels))

    found = minimize_scalar(loss, bounds=tuple(map(math.log, BOUNDS)), method="bounded")
    return round(math.exp(found.x), 2)


@torch.no_grad()
def with_temperature(network: VGG, temperature: float) -> VGG:
    """Return a copy of ``network`` whose logits are divided by ``temperature``."""
    scaled = copy.deepcopy(network)
    last = scaled.linear_layers[-1]
    for tensor in (last.weight, last.bias, *last.buffers()):  # on a grid a buffer holds the scale of the weights
        tensor /= temperature
    return scaled
