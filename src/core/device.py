"""Where and how to compute: device, seed, precision."""

import contextlib
import os
from typing import Literal

import torch

from src.core.cpu import cpu_info
from src.core.errors import ParamsError

AMD = "AuthenticAMD"
MixedPrecision = Literal[True, False, "auto"]


def pick_device(name: str) -> torch.device:
    """Return the device ``name``; ``auto`` is CUDA, else Apple's MPS, else the CPU. `ParamsError` if it is missing.

    From then on float32 means float32: CUDA convolutions do not use TF32.
    """
    torch.backends.cudnn.allow_tf32 = False
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        there = ", ".join(kind for kind, there in available.items() if there)
        raise ParamsError(f"params.yaml: device: this machine has no {name}; it has: auto, {there}")
    return torch.device(name)


def seed_everything(seed: int) -> None:
    """Seed PyTorch, and ask it for algorithms that give the same bits in every run."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # needed for the same bits from cuBLAS
    torch.manual_seed(seed)
    # As use_deterministic_algorithms(True, warn_only=True), without two seconds for the import of PyTorch's compiler
    torch.set_deterministic_debug_mode("warn")
    # Nothing here reads memory before it is written; filling it costs up to a tenth of a forward pass
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of a module
    torch.backends.cudnn.benchmark = False


def autocast(device: torch.device, mixed_precision: MixedPrecision) -> contextlib.AbstractContextManager[None]:
    """Return a context in which networks on ``device`` compute in bfloat16 or in float32 (see `uses_bfloat16`)."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bfloat16(device, mixed_precision))


def uses_bfloat16(device: torch.device, mixed_precision: MixedPrecision) -> bool:
    """Return whether to multiply in bfloat16: ``mixed_precision``; if that is ``auto``, whether it is faster."""
    return multiplies_bfloat16_fast(device) if mixed_precision == "auto" else mixed_precision


def multiplies_bfloat16_fast(device: torch.device) -> bool:
    """Return whether devices of this kind multiply bfloat16 faster than float32.

    These are CUDA devices from 8.0 on, CPUs with AMX, and AMD's CPUs with AVX512-BF16. On Intel's CPUs that have
    AVX512-BF16 alone, bfloat16 is slower.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    return has_amx(device) or (torch.cpu._is_avx512_bf16_supported() and cpu_info("vendor_id") == AMD)


def has_amx(device: torch.device) -> bool:
    """Return whether ``device`` is a CPU with AMX, Intel's units for products of tiles."""
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()
