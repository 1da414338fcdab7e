"""Where training starts: He's random weights, or filters that hand the image on, after airbench (arXiv:2404.00498)."""

import torch
from torch import Tensor, nn

from src.network.inference import to_unit
from src.network.vgg import VGG
from src.training.schedule import TrainRecipe

PATCH_IMAGES = 5000  # more do not move the principal components of 3x3 patches


def initialise(model: VGG, recipe: TrainRecipe, images: Tensor) -> VGG:
    """``model`` with the start that ``recipe`` asks for; ``images`` (uint8 [N, 3, H, W]) lie where it lies."""
    if recipe.pass_on:
        pass_on(model)
    if recipe.whiten:
        whiten(model, images)
    return model


@torch.no_grad()
def whiten(model: VGG, images: Tensor) -> None:
    """Set the first filters to the principal components of the patches of ``images`` and fix them.

    ``images`` is uint8 [N, 3, H, W]. Each component comes twice, with both signs, since ReLU keeps one; the
    BatchNorm that follows gives each unit variance, which makes the pair a whitening (Huang & Mueller 2018).
    Filters beyond twice 27 stay random; narrower networks take the strongest components.
    """
    filters = model.convolutions[0].weight
    components = principal_components(model.normalised(to_unit(images[:PATCH_IMAGES])))[: len(filters) // 2]
    bank = torch.cat([components, -components])
    filters[: len(bank)] = bank.to(filters)
    filters.requires_grad_(False)


def principal_components(images: Tensor) -> Tensor:
    """Eigenvectors, strongest first, of the covariance of 3x3 patches: float [N, C, H, W] -> [9C, C, 3, 3]."""
    patches = nn.functional.unfold(images, 3).transpose(1, 2).flatten(0, 1)
    components = torch.linalg.eigh(patches.T.cov()).eigenvectors.T.flip(0)
    return components.reshape(-1, images.shape[1], 3, 3)


@torch.no_grad()
def pass_on(model: VGG) -> None:
    """Let the first filters of each further layer hand on its input unchanged; the rest stay random.

    That is `torch.nn.init.dirac_` where a layer is as wide as its input or wider, and the identity for
    square hidden layers of the head: a deep network that starts as a shallow one.
    """
    for convolution in model.convolutions[1:]:
        nn.init.dirac_(convolution.weight[: convolution.in_channels])
    for layer in model.classifier:
        if isinstance(layer, nn.Linear) and layer.in_features == layer.out_features:
            nn.init.eye_(layer.weight)
