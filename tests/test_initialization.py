"""Where training starts: principal components beside scikit-learn's, filters that hand on, weights that stay."""

import pytest
import torch
from networks import plan, vgg
from sklearn.decomposition import PCA
from test_training import PLAN, colored, train

from src.network.inference import to_unit
from src.network.vgg import VGG
from src.training.initialization import identity_init, principal_components, whiten


@pytest.fixture
def images():
    """Smooth noise, so that neighbors correlate as in photographs: uint8 [200, 3, 32, 32]."""
    noise = torch.randn(200, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    noise = noise + 0.5 * noise.roll(1, 1)
    return (60 * torch.nn.functional.avg_pool2d(noise, 9, 1) * 4 + 128).clamp(0, 255).byte()


def test_components_explain_the_variance_that_scikit_learn_says(images):
    unit = to_unit(images)
    patches = unit.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 27)
    components = principal_components(unit).flatten(1)
    torch.testing.assert_close(components @ components.T, torch.eye(27), atol=1e-5, rtol=0)
    variances = torch.from_numpy(PCA().fit(patches.double().numpy()).explained_variance_)
    torch.testing.assert_close((patches @ components.T).var(0), variances.float(), rtol=1e-2, atol=0)


def test_whitened_filters_give_uncorrelated_maps_in_pairs(images):
    wide = vgg(1.0)
    model = VGG(wide, torch.tensor([0.5, 0.4, 0.6]), torch.tensor([0.2, 0.25, 0.3]))
    whiten(model, images)
    with torch.no_grad():
        maps = model.features[0](model.normalized(to_unit(images)))[:, :54, 1:-1, 1:-1]
    torch.testing.assert_close(maps[:, :27], -maps[:, 27:])
    correlation = maps[:, :27].transpose(0, 1).flatten(1).corrcoef()
    torch.testing.assert_close(correlation, torch.eye(27), atol=1e-2, rtol=0)


def test_a_narrow_network_takes_the_strongest_components(images):
    model = VGG(PLAN)
    whiten(model, images)
    torch.testing.assert_close(model.convolutions[0].weight[:4], principal_components(to_unit(images))[:4])


def test_whitened_filters_stay_and_the_rest_learns():
    model, data = VGG(PLAN), colored(80)
    whiten(model, data.images)
    before = [convolution.weight.clone() for convolution in model.convolutions]
    train(model=model, data=data, optimizer="muon")
    assert torch.equal(model.convolutions[0].weight, before[0])
    assert not torch.equal(model.convolutions[1].weight, before[1])


def test_layers_copy_what_is_not_negative():
    model = VGG(plan(4, 4, 6, head=(6, 6, 5), batch_norm=False))
    identity_init(model)
    maps = torch.rand(2, 4, 5, 5)
    torch.testing.assert_close(model.features[2:](maps)[:, :4], maps)
    assert torch.equal(model.classifier[0].weight, torch.eye(6))
    assert not torch.equal(model.classifier[6].weight, torch.eye(5, 6)[:5])
