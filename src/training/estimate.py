"""How long a training run will take, as a rough number before it starts."""

import time

import torch

SIDE = 2048


def matrix_rate(device: torch.device, bfloat16: bool) -> float:
    """Return how many floating-point operations a second ``device`` does in one product of 2048 x 2048 matrices."""
    matrix = torch.ones(SIDE, SIDE, device=device, dtype=torch.bfloat16 if bfloat16 else torch.float32)
    _seconds(matrix)  # the first product also prepares the device
    return 2 * SIDE**3 / _seconds(matrix)


def _seconds(matrix: torch.Tensor) -> float:
    start = time.perf_counter()
    float((matrix @ matrix)[0, 0])  # a GPU has finished when the number is here
    return time.perf_counter() - start


def in_words(seconds: float) -> str:
    """Return ``seconds`` in the unit that fits: seconds, minutes, or hours from two hours on."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
