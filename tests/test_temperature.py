"""Temperature scaling against a case with a known answer, and against the network itself."""

import numpy as np
import pytest
import torch
from networks import plan, trained

from src.network.inference import predict
from src.network.temperature import BOUNDS, fitted_temperature, with_temperature


def test_temperature_of_two_classes_worked_out_by_hand():
    """Logits 3 and 0; three of four images belong to the first class: the best logit is log(3), 3 / 2.73."""
    logits, labels = torch.tensor([[3.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    assert fitted_temperature(logits, labels) == round(3 / np.log(3), 2)


def test_temperature_stays_within_bounds_where_all_or_none_are_correct():
    logits = torch.tensor([[1.0, 0.0]] * 4)
    for label, bound in enumerate(BOUNDS):
        assert fitted_temperature(logits, torch.full((4,), label)) == pytest.approx(bound, abs=0.02)


def test_logits_are_divided_by_the_temperature_and_codes_of_a_grid_stay():
    network = trained(plan(8, "pool", 16, head=(12,)).model_copy(update={"grid": True}))
    images = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    scaled = with_temperature(network, 0.5)
    torch.testing.assert_close(predict(scaled, images), 2 * predict(network, images))
    for name in network.scales:
        codes, kept = (one.get_parameter(name).flatten(1) / one.scales[name][:, None] for one in (network, scaled))
        torch.testing.assert_close(codes, kept)
    assert not scaled.scales[name].equal(network.scales[name])  # of the last layer
