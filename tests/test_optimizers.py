"""Muon against singular values, plain Newton-Schulz and PyTorch's own; SGD against hand-written steps."""

import pytest
import torch
from networks import plan
from test_recipe import recipe
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from src.network.vgg import VGG
from src.training.optimizers import (
    NEWTON_SCHULZ_STEPS,
    Muon,
    Optimizers,
    as_matrix,
    flops_of_step,
    orthogonalization_flops,
    orthogonalized,
)

PLAN = plan(8, "pool", 16, head=(8,))
COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of Jordan's quintic, applied to each singular value


def with_gradients():
    model = VGG(PLAN)
    model(torch.rand(4, 3, 8, 8)).logsumexp(1).sum().backward()
    return model


def by_singular_values(matrix):
    """Each singular value s, after scaling to Frobenius norm 1, through s -> a s + b s^3 + c s^5, by SVD in float64."""
    u, s, v = torch.linalg.svd(matrix.double() / matrix.double().norm(), full_matrices=False)
    a, b, c = COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        s = a * s + b * s**3 + c * s**5
    return u @ torch.diag(s) @ v


def plain_newton_schulz(matrix):
    """The same by iterating on the whole matrix, in float64."""
    a, b, c = COEFFICIENTS
    x = matrix.double() / matrix.double().norm()
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def gradient_like(rows, columns):
    """A matrix whose singular values fall over three orders of magnitude, as those of gradients do."""
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)), False)
    return u @ torch.diag(torch.logspace(0, -3, min(rows, columns))) @ v


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("shape", [(64, 576), (40, 30), (32, 32), (1, 9)])
def test_orthogonalized_is_newton_schulz(shape):
    matrix = gradient_like(*shape)
    found = orthogonalized(matrix)
    assert found.dtype == torch.float32
    assert relative_error(found, plain_newton_schulz(matrix)) < 1e-4
    assert relative_error(found, by_singular_values(matrix)) < 1e-4


def test_orthogonalized_in_bfloat16():
    matrix = gradient_like(64, 576)
    found = orthogonalized(matrix, torch.bfloat16)
    assert found.dtype == torch.float32
    assert 1e-4 < relative_error(found, plain_newton_schulz(matrix)) < 0.03


def test_orthogonalized_leaves_directions_and_evens_out_lengths():
    u, _, v = torch.linalg.svd(torch.randn(16, 72, generator=torch.Generator().manual_seed(1)), full_matrices=False)
    lengths = torch.diag(u.T @ orthogonalized(u @ torch.diag(torch.linspace(1, 2, 16)) @ v) @ v.T)
    assert (lengths > 0.6).all()
    assert (lengths < 1.3).all()
    assert not orthogonalized(torch.zeros(3, 5)).any()


def test_as_matrix_shares_storage():
    weight = VGG(PLAN).convolutions[1].weight
    matrix = as_matrix(weight.detach())
    assert matrix.shape == (16, 72)
    assert matrix.data_ptr() == weight.data_ptr()
    matrix[3, 5 * 8 + 2] = 7.0  # row-major over height, width, channel: row 1, column 2, channel 2
    assert weight[3, 2, 1, 2] == 7.0


def test_as_matrix_never_copies():
    with pytest.raises(RuntimeError, match="view"):
        as_matrix(torch.zeros(4, 2, 3, 3))


def test_first_muon_step():
    model = with_gradients()
    weights = [p for p in model.parameters() if p.dim() > 1][:-1]
    before = [p.detach().clone() for p in weights]
    gradients = [p.grad.clone() for p in weights]
    Optimizers(model, recipe(optimizer="muon", momentum=0.5, mixed_precision=False)).step(0.01)
    for weight, old, gradient in zip(weights, before, gradients, strict=True):
        update = as_matrix(weight.detach() - old).double()
        rms = 0.2 * max(update.shape) ** 0.5  # AdamW's scale, arXiv:2502.16982
        assert relative_error(update, -0.01 * rms * by_singular_values(as_matrix(gradient))) < 1e-3


def test_muon_steps_as_torchs_does():
    start = torch.randn(16, 72, generator=torch.Generator().manual_seed(0))
    ours, torchs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings = {"lr": 0.01, "momentum": 0.8, "weight_decay": 0.5}
    scaled = {"adjust_lr_fn": "match_rms_adamw", "ns_steps": NEWTON_SCHULZ_STEPS}
    one, other = Muon([ours], **settings), torch.optim.Muon([torchs], **settings, **scaled)
    for seed in range(5):
        ours.grad = torchs.grad = torch.randn(16, 72, generator=torch.Generator().manual_seed(seed))
        one.step()
        other.step()
    assert relative_error((ours - start).detach(), (torchs - start).detach()) < 0.02  # torch's multiplies in bfloat16


def test_normed_filters_take_relative_steps():
    model = with_gradients()
    weight = model.convolutions[1].weight
    before, gradient = as_matrix(weight.detach()).clone(), as_matrix(weight.grad).clone()
    Optimizers(model, recipe(optimizer="muon", momentum=0.5, mixed_precision=False, normed_filters=True)).step(0.01)
    start = before * 4 / before.norm()  # sqrt(16 filters)
    expected = start - 0.05 * by_singular_values(gradient)
    assert relative_error(as_matrix(weight.detach()), expected) < 1e-5
    assert relative_error(expected, start) == pytest.approx(0.05, rel=0.3)


def test_batch_norm_makes_up_for_normed_filters():
    torch.manual_seed(0)
    model, images = VGG(plan(8, "pool", 16)).train(), torch.rand(16, 3, 8, 8)
    filters = model.convolutions[1].weight
    filters.data *= 3
    before, logits = filters.detach().clone(), model(images)
    logits.logsumexp(1).sum().backward()
    Optimizers(model, recipe(optimizer="muon", mixed_precision=False, normed_filters=True)).step(0.0)
    torch.testing.assert_close(filters.detach(), before * 4 / before.norm())  # sqrt(16 filters)
    torch.testing.assert_close(model(images), logits, rtol=1e-3, atol=1e-3)


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
    with FlopCounterMode(display=False) as counter:
        orthogonalized(torch.rand(8, 20))
    assert counter.get_total_flops() == orthogonalization_flops(8, 20) == orthogonalization_flops(20, 8)
    assert flops_of_step(VGG(PLAN), recipe()) == 0
