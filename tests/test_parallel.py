"""Training in several processes: gradients by hand, and what torchrun's users meet."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from recorded_run import BATCH, RECIPE
from test_training import PLAN, colored

from src.network.inference import to_unit
from src.network.vgg import VGG
from src.training.batches import ORDER, derived_seed

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def recorded_run(path, accumulate):
    command = [*TORCHRUN, ROOT / "tests/recorded_run.py", path, str(accumulate)]
    return subprocess.run(command, env=ENVIRONMENT, timeout=120, text=True, capture_output=True, check=False)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_are_the_mean_over_the_processes(tmp_path, accumulate):
    """Each process has the even images of a batch or the odd ones, and its BatchNorm sees a part of them at a time."""
    record = tmp_path / "steps.pt"
    done = recorded_run(record, accumulate)
    assert done.returncode == 0, done.stderr
    steps = torch.load(record)
    assert len(steps) == 3
    data = colored(3 * BATCH)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(derived_seed(0, ORDER, 0)))
    for (state, recorded), chosen in zip(steps, order.split(BATCH), strict=True):
        parts = [part for start in (0, 1) for part in chosen[start::2].chunk(accumulate)]
        each = [gradients(state, data[part]) for part in parts]
        for found, *by_hand in zip(recorded, *each, strict=True):
            torch.testing.assert_close(found, sum(by_hand) / len(parts), rtol=1e-4, atol=1e-7)


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    done = recorded_run(tmp_path / "steps.pt", accumulate=3)
    assert done.returncode != 0
    assert "error: params.yaml: batch_size 20: must be a multiple of processes x accumulate (6)" in done.stderr


def gradients(state, part):
    model = VGG(PLAN).train()
    model.load_state_dict(state)
    loss = F.cross_entropy(model(to_unit(part.images)), part.labels, label_smoothing=RECIPE.label_smoothing)
    return torch.autograd.grad(loss, list(model.parameters()))
