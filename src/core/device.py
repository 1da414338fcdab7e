"""Where and how to compute: device, seed, precision."""

import contextlib
import os

import torch

from src.core.errors import ParamsError


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
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def autocast(device: torch.device, wanted: bool = True) -> contextlib.AbstractContextManager[None]:
    """Return a context of bfloat16 where it is ``wanted`` and ``device`` has it in hardware, else of float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted and has_bfloat16(device))


def has_bfloat16(device: torch.device) -> bool:
    """Return whether ``device`` has bfloat16 matrix instructions (CUDA 8.0 and later, AVX512-BF16 and AMX CPUs)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
