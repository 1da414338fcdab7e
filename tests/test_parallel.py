"""Training in several processes: gradients by hand, and what torchrun's users meet."""

import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from recorded_run import BATCH, RECIPE
from test_training import PLAN, coloured

from src.inference import to_unit
from src.training import _mixed
from src.vgg import VGG

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def test_gradients_are_the_mean_of_both_halves(tmp_path):
    """Each process's BatchNorm sees its own half of the batch: the even images, and the odd ones."""
    record = tmp_path / "steps.pt"
    subprocess.run([*TORCHRUN, ROOT / "tests/recorded_run.py", record], env=ENVIRONMENT, check=True, timeout=120)
    steps = torch.load(record)
    assert len(steps) == 3
    data = coloured(3 * BATCH)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(_mixed(0, 1, 0)))
    for (state, recorded), chosen in zip(steps, order.split(BATCH), strict=True):
        halves = [gradients(state, data[chosen[start::2]]) for start in (0, 1)]
        for found, one, other in zip(recorded, *halves, strict=True):
            torch.testing.assert_close(found, (one + other) / 2, rtol=1e-4, atol=1e-7)


def gradients(state, half):
    model = VGG(PLAN).train()
    model.load_state_dict(state)
    loss = F.cross_entropy(model(to_unit(half.images)), half.labels, label_smoothing=RECIPE.label_smoothing)
    return torch.autograd.grad(loss, list(model.parameters()))
