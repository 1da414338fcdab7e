"""The optimizers that a recipe can name: Nesterov SGD for everything, or Muon for matrices and AdamW for the rest."""

import torch
from torch import Tensor, nn

from src.core.device import uses_bfloat16
from src.training.recipe import Training

NEWTON_SCHULZ_STEPS = 3  # as in airbench (arXiv:2404.00498, 2024 update); five cost more than they bring
QUINTIC = (3.4445, -4.7750, 2.0315)  # of Jordan's Muon: s -> a s + b s^3 + c s^5 for each singular value s
SMALLEST_NORM = 1e-7  # divides a gradient of zeros
RELATIVE_STEP = 5.0  # per learning rate, of filters of fixed norm: 0.01 moves a bank by about 0.05 of its norm
ADAMW_RMS = 0.2  # of an update, per learning rate, as AdamW's updates have (arXiv:2502.16982)


class Optimizers:
    """The optimizers of ``settings`` for ``model``, stepped together at one learning rate.

    ``muon``: filter banks and hidden matrices by `Muon`; BatchNorm, biases and the last layer by AdamW. ``model``
    must be channels_last.
    """

    def __init__(self, model: nn.Module, settings: Training) -> None:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        matrices = _muon_matrices(model, settings)
        hidden = {id(weight) for weight in matrices}
        rest = _decayed([weight for weight in trained if id(weight) not in hidden], settings.weight_decay)
        self.all: list[torch.optim.Optimizer] = []
        if settings.optimizer == "sgd":
            lr, momentum = settings.lr_start, settings.momentum
            self.all.append(torch.optim.SGD(rest, lr, momentum, nesterov=momentum > 0, fused=True))  # reads memory once
        else:
            self.all.append(torch.optim.AdamW(rest, lr=settings.lr_start))
        if matrices:
            self.all.append(_muon(matrices, settings))

    def step(self, learning_rate: float) -> None:
        """Apply the gradients with ``learning_rate`` and clear them."""
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad()

    def state_dict(self) -> list[dict]:
        """Return the states of all optimizers, for a checkpoint."""
        return [optimizer.state_dict() for optimizer in self.all]

    def load_state_dict(self, states: list[dict]) -> None:
        """Restore the states that `state_dict` gave."""
        for optimizer, state in zip(self.all, states, strict=True):
            optimizer.load_state_dict(state)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is orthogonalized before each step (Jordan et al. 2024).

    ``weights`` are matrices [out, in] and filter banks [out, in, h, w] in channels_last order, taken as matrices
    [out, h * w * in]. The root mean square of an update is `ADAMW_RMS` times the learning rate, and weight decay is
    decoupled: the step is that of ``torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`` with fewer products.
    ``precision`` is that of the products.

    ``normed`` (airbench's way): each matrix, a hidden layer's too, is scaled to the Frobenius norm sqrt(out) before
    its step. The orthogonalized update has about that norm too, where out <= in. A step of `RELATIVE_STEP` times the
    learning rate times the update then changes the weights by that share, at any time of a run.
    """

    def __init__(
        self,
        weights: list[nn.Parameter],
        lr: float,
        momentum: float,
        weight_decay: float,
        precision: torch.dtype = torch.float32,
        normed: bool = False,
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.precision, self.normed = precision, normed

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # PyTorch's takes a closure
        """Apply the gradients."""
        for group in self.param_groups:
            for weight in filter(lambda weight: weight.grad is not None, group["params"]):
                mixture = self._momentum(weight, weight.grad, group["momentum"])
                update = orthogonalized(as_matrix(mixture), self.precision)
                matrix = as_matrix(weight)
                if self.normed:
                    matrix.mul_(len(matrix) ** 0.5 / matrix.norm())
                scale = RELATIVE_STEP if self.normed else ADAMW_RMS * max(matrix.shape) ** 0.5
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * scale)

    def _momentum(self, weight: nn.Parameter, gradient: Tensor, momentum: float) -> Tensor:
        """Return the Nesterov mixture of the ``gradient`` of ``weight`` and its running average."""
        if not self.state[weight]:
            self.state[weight]["average"] = torch.zeros_like(weight)
        average = self.state[weight]["average"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum)


def orthogonalized(matrix: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """Return ``matrix`` [m, n] with its singular values near 1, by Newton-Schulz iterations of X = matrix / its norm.

    An iteration is X <- P X with P = a I + b A + c A^2 and A = X X^T, so that A <- P A P. A and the product Q of all
    P are small squares. The long X is multiplied twice: for the first A, and for Q X. The products are computed in
    ``precision``: in bfloat16 the relative error of the result is 0.01 to 0.02.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalized(matrix.T, precision).T
    long = (matrix / matrix.norm().clamp(min=SMALLEST_NORM)).to(precision)
    gram = long @ long.T
    product = polynomial = _polynomial(gram)
    for _ in range(NEWTON_SCHULZ_STEPS - 1):
        gram = polynomial @ gram @ polynomial
        polynomial = _polynomial(gram)
        product = polynomial @ product
    return (product @ long).to(matrix.dtype)


def _polynomial(gram: Tensor) -> Tensor:
    """Return a I + b A + c A^2 of the square matrix A = ``gram``."""
    a, b, c = QUINTIC
    polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    polynomial.diagonal().add_(a)
    return polynomial


def orthogonalization_flops(rows: int, columns: int) -> int:
    """Return the FLOPs of `orthogonalized` on a [rows, columns] matrix: X X^T, Q X, and the small products."""
    short, long = sorted((rows, columns))
    small_products = NEWTON_SCHULZ_STEPS + 3 * (NEWTON_SCHULZ_STEPS - 1)  # A^2 of each; P A, (P A) P, P Q between
    return 2 * (2 * short * short * long + small_products * short**3)


def as_matrix(weight: Tensor) -> Tensor:
    """Return a view of a filter bank [out, in, h, w] as [out, h * w * in], or a matrix as it is.

    That is the storage order of channels_last. Raises RuntimeError for a filter bank that is stored in another order.
    """
    return weight.permute(0, 2, 3, 1).view(len(weight), -1) if weight.dim() == 4 else weight


def flops_of_step(model: nn.Module, settings: Training) -> int:
    """Return the FLOPs of the matrix products in one step (orthogonalization; elementwise work is not counted)."""
    matrices = _muon_matrices(model, settings)
    return sum(orthogonalization_flops(len(weight), weight[0].numel()) for weight in matrices)


def _muon_matrices(model: nn.Module, settings: Training) -> list[nn.Parameter]:
    """Return the parameters of `Muon`: those of two and more dimensions that are trained, without the last layer's."""
    if settings.optimizer != "muon":
        return []
    return [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dim() > 1][:-1]


def _muon(matrices: list[nn.Parameter], settings: Training) -> Muon:
    bfloat16 = uses_bfloat16(matrices[0].device, settings.mixed_precision)
    return Muon(
        matrices,
        settings.lr_start,
        settings.momentum,
        settings.weight_decay,
        torch.bfloat16 if bfloat16 else torch.float32,
        settings.normed_filters,
    )


def _decayed(parameters: list[nn.Parameter], weight_decay: float) -> list[dict]:
    """Return parameter groups: weight decay for matrices and filter banks, none for biases and BatchNorm."""
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
