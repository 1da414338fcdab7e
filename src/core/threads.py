"""How many threads compute, in all libraries."""

import os

import torch
from threadpoolctl import threadpool_limits


def limit_threads(threads: int | None) -> None:
    """Let PyTorch, BLAS and OpenMP compute with ``threads`` threads from now on; None changes nothing."""
    if threads is None:
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for libraries that are loaded later
    threadpool_limits(threads)
    torch.set_num_threads(threads)
