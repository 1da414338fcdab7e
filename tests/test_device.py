"""Which devices multiply in bfloat16, and how many threads compute."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.core import cpu, device

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "vendor", "fast"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),
        (False, True, "AuthenticAMD", True),
        (False, False, "AuthenticAMD", False),
        (False, True, "", False),
    ],
)
def test_bfloat16_by_kind_of_cpu(tmp_path, monkeypatch, amx, avx512_bf16, vendor, fast):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(cpu, "INFO", tmp_path / "cpuinfo")
    if vendor:
        cpu.INFO.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nmodel\t: 17\n")
    assert device.uses_bfloat16(CPU, "auto") == fast
    assert device.uses_bfloat16(CPU, True)
    assert not device.uses_bfloat16(CPU, False)


def test_bfloat16_on_cuda_from_8_0_on(monkeypatch):
    for capability, fast in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert device.uses_bfloat16(torch.device("cuda"), "auto") == fast
    assert not device.uses_bfloat16(torch.device("mps"), "auto")


def test_autocast_follows():
    one = torch.ones(2, 2)
    for mixed, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with device.autocast(CPU, mixed):
            assert (one @ one).dtype == dtype


def test_threads_of_libraries_that_are_loaded_before_and_after():
    code = """
import json, numpy
from src.core.threads import limit_threads
limit_threads(1)
import scipy.linalg, sklearn.cluster, threadpoolctl, torch
print(json.dumps([torch.get_num_threads(), *(pool["num_threads"] for pool in threadpoolctl.threadpool_info())]))
"""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    folder = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, check=True)
    assert set(json.loads(done.stdout)) == {1}
