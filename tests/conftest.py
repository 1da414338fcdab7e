"""What every test shares: one thread, so that parallel workers do not fight over the cores."""

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--files", type=int, default=10, help="damaged files for each reader (tests/test_fuzz.py)")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
