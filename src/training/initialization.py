"""Where training starts: He's random weights, or whitening and identity filters, after airbench (arXiv:2404.00498)."""

import torch
from torch import Tensor, nn

from src.network.inference import to_unit
from src.network.vgg import VGG
from src.training.recipe import Training

PATCH_PIXELS = 5000 * 32**2  # more do not move the principal components of 3x3 patches


def initialize(model: VGG, training: Training, images: Tensor) -> VGG:
    """Return ``model``, changed in place, with the start that ``training`` asks for.

    ``images`` (uint8 [N, 3, H, W]) are training images on the device of ``model``.
    """
    if training.identity_init:
        identity_init(model)
    if training.whiten:
        whiten(model, images)
    return model


@torch.no_grad()
def whiten(model: VGG, images: Tensor) -> None:
    """Set the first filters to the principal components of the patches of ``images``, and fix them.

    ``images`` is uint8 [N, 3, H, W]. Each component comes twice, with both signs, because ReLU passes only one. The
    BatchNorm that follows gives each of them unit variance, which makes the pairs a whitening (Huang & Mueller 2018).
    There are 27 components; filters after the 54th stay random. A narrow network takes the strongest components.
    """
    filters = model.convolutions[0].weight
    few = images[: PATCH_PIXELS // images[0, 0].numel()]
    components = principal_components(model.normalized(to_unit(few)))[: len(filters) // 2]
    bank = torch.cat([components, -components])
    filters[: len(bank)] = bank.to(filters)
    filters.requires_grad_(False)


def principal_components(images: Tensor) -> Tensor:
    """Return the eigenvectors, strongest first, of the covariance of 3x3 patches: [N, C, H, W] -> [9C, C, 3, 3]."""
    patches = nn.functional.unfold(images, 3).transpose(1, 2).flatten(0, 1)
    components = torch.linalg.eigh(patches.T.cov()).eigenvectors.T.flip(0)
    return components.reshape(-1, images.shape[1], 3, 3)


@torch.no_grad()
def identity_init(model: VGG) -> None:
    """Let the first filters of each further layer copy its input channels; the rest stay random.

    Convolutions: `torch.nn.init.dirac_`; one that is narrower than its input copies the first channels. Hidden layers:
    the identity where the matrix is square. A deep network then starts as a shallow one.
    """
    for convolution in model.convolutions[1:]:
        nn.init.dirac_(convolution.weight[: convolution.in_channels])
    for layer in model.linear_layers:
        if layer.in_features == layer.out_features:
            nn.init.eye_(layer.weight)
