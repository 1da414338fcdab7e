"""Which devices multiply in bfloat16."""

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
