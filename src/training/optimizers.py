"""The optimizers that a recipe can name: Nesterov SGD for everything, or Muon for matrices and AdamW for the rest."""

import torch
from torch import Tensor, nn

from src.training.schedule import TrainRecipe

NEWTON_SCHULZ_STEPS = 3  # as in airbench (arXiv:2404.00498, 2024 update); five cost more than they bring


class Optimizers:
    """The optimizers of ``recipe`` for ``model``, stepped together at one learning rate.

    ``muon``: filter banks and hidden matrices by `torch.optim.Muon` (Jordan et al. 2024), each as a matrix
    [out, in * height * width], with the update's RMS on AdamW's scale (arXiv:2502.16982); BatchNorm, biases
    and the last layer by AdamW. ``model`` must be channels_last, so that the matrices share its storage.
    """

    def __init__(self, model: nn.Module, recipe: TrainRecipe) -> None:
        self.matrices = _matrices(model) if recipe.optimizer == "muon" else []
        shared = {id(weight) for weight, _ in self.matrices}
        rest = [parameter for parameter in _trained(model) if id(parameter) not in shared]
        self.all: list[torch.optim.Optimizer] = []
        if self.matrices:
            self.all.append(_muon([matrix for _, matrix in self.matrices], recipe))
            self.all.append(torch.optim.AdamW(_decayed(rest, recipe.weight_decay), lr=recipe.lr_start))
        else:
            self.all.append(_sgd(rest, recipe))

    def step(self, learning_rate: float) -> None:
        """Apply the gradients with ``learning_rate`` and clear them."""
        for weight, matrix in self.matrices:
            matrix.grad = as_matrix(weight.grad)
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
        for weight, matrix in self.matrices:
            weight.grad = matrix.grad = None
        for optimizer in self.all:
            optimizer.zero_grad()

    @property
    def flops_per_step(self) -> int:
        """FLOPs of the matrix products in one step (Newton-Schulz iterations; elementwise work left out)."""
        return sum(orthogonalisation_flops(*matrix.shape) for _, matrix in self.matrices)

    def state_dict(self) -> list[dict]:
        """Return the states of all optimizers, for a checkpoint."""
        return [optimizer.state_dict() for optimizer in self.all]

    def load_state_dict(self, states: list[dict]) -> None:
        """Take up the states that `state_dict` gave."""
        for optimizer, state in zip(self.all, states, strict=True):
            optimizer.load_state_dict(state)


def as_matrix(weight: Tensor) -> Tensor:
    """Return a view of a filter bank [out, in, h, w] as [out, h * w * in], or a matrix as it is.

    That is the storage order of channels_last. Raises RuntimeError for a filter bank that is stored in another order.
    """
    return weight.permute(0, 2, 3, 1).view(len(weight), -1) if weight.dim() == 4 else weight


def orthogonalisation_flops(rows: int, columns: int) -> int:
    """Return the FLOPs of Muon's Newton-Schulz iterations on a [rows, columns] matrix: X X^T, its square, and B X."""
    short, long = sorted((rows, columns))
    return NEWTON_SCHULZ_STEPS * 2 * (2 * short * short * long + short**3)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _matrices(model: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Return the weights of two and more dimensions, the last layer's apart, each beside its matrix view."""
    weights = [parameter for parameter in _trained(model) if parameter.dim() > 1][:-1]
    return [(weight, nn.Parameter(as_matrix(weight.detach()))) for weight in weights]


def _muon(matrices: list[nn.Parameter], recipe: TrainRecipe) -> torch.optim.Optimizer:
    return torch.optim.Muon(
        matrices,
        lr=recipe.lr_start,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
        ns_steps=NEWTON_SCHULZ_STEPS,
        adjust_lr_fn="match_rms_adamw",
    )


def _sgd(parameters: list[nn.Parameter], recipe: TrainRecipe) -> torch.optim.Optimizer:
    groups = _decayed(parameters, recipe.weight_decay)
    return torch.optim.SGD(groups, lr=recipe.lr_start, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def _decayed(parameters: list[nn.Parameter], weight_decay: float) -> list[dict]:
    """Return parameter groups: weight decay for matrices and filter banks, none for biases and BatchNorm."""
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
