"""Muon against an orthogonalisation by singular values; SGD against PyTorch's own."""

import pytest
import torch
from networks import plan
from test_schedule import recipe

from src.network.vgg import VGG
from src.training.optimizers import NEWTON_SCHULZ_STEPS, Optimizers, as_matrix, orthogonalisation_flops

PLAN = plan(8, "pool", 16, head=(8,))
COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of Jordan's quintic, applied to each singular value


def with_gradients():
    model = VGG(PLAN)
    model(torch.rand(4, 3, 8, 8)).logsumexp(1).sum().backward()
    return model


def orthogonalised(matrix):
    """Each singular value s, after scaling to Frobenius norm 1, through s -> a s + b s^3 + c s^5, by SVD in float64."""
    u, s, v = torch.linalg.svd(matrix.double() / matrix.double().norm(), full_matrices=False)
    a, b, c = COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        s = a * s + b * s**3 + c * s**5
    return u @ torch.diag(s) @ v


def test_as_matrix_shares_storage():
    weight = VGG(PLAN).convolutions[1].weight
    matrix = as_matrix(weight.detach())
    assert matrix.shape == (16, 72)
    assert matrix.data_ptr() == weight.data_ptr()
    matrix[3, 5 * 8 + 2] = 7.0  # row-major over height, width, channel: row 1, column 2, channel 2
    assert weight[3, 2, 1, 2] == 7.0


def test_first_muon_step():
    model = with_gradients()
    weights = [p for p in model.parameters() if p.dim() > 1][:-1]
    before = [p.detach().clone() for p in weights]
    gradients = [p.grad.clone() for p in weights]
    Optimizers(model, recipe(optimizer="muon", momentum=0.5)).step(0.01)
    for weight, old, gradient in zip(weights, before, gradients, strict=True):
        update = as_matrix(weight.detach() - old).double()
        rms = 0.2 * max(update.shape) ** 0.5  # AdamW's scale, arXiv:2502.16982
        expected = -0.01 * rms * orthogonalised(as_matrix(gradient))
        assert (update - expected).norm() / expected.norm() < 0.05  # Muon iterates in bfloat16


def test_the_rest_follows_adamw():
    model = with_gradients()
    bias = model.classifier[-1].bias
    before, gradient = bias.detach().clone(), bias.grad.clone()
    Optimizers(model, recipe(optimizer="muon")).step(0.01)
    torch.testing.assert_close(bias.detach(), before - 0.01 * gradient.sign(), rtol=1e-3, atol=1e-5)


def test_sgd_is_nesterov_with_decay_on_matrices_alone():
    model = with_gradients()
    weight, bias = model.classifier[-1].weight, model.classifier[-1].bias
    before = weight.detach().clone(), bias.detach().clone()
    gradients = weight.grad.clone(), bias.grad.clone()
    Optimizers(model, recipe(momentum=0.9, weight_decay=0.1)).step(0.5)
    decayed = gradients[0] + 0.1 * before[0]
    torch.testing.assert_close(weight.detach(), before[0] - 0.5 * 1.9 * decayed)
    torch.testing.assert_close(bias.detach(), before[1] - 0.5 * 1.9 * gradients[1])


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_gradients_are_cleared_and_rate_applied(optimizer):
    model = with_gradients()
    optimizers = Optimizers(model, recipe(optimizer=optimizer))
    optimizers.step(0.025)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert {group["lr"] for one in optimizers.all for group in one.param_groups} == {0.025}


def test_flops_of_a_step():
    per_iteration = 2 * (8 * 8 * 20 + 8 * 8 * 8 + 8 * 8 * 20)
    assert orthogonalisation_flops(8, 20) == orthogonalisation_flops(20, 8) == NEWTON_SCHULZ_STEPS * per_iteration
    assert Optimizers(VGG(PLAN), recipe()).flops_per_step == 0
