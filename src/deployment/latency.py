"""How long a network takes to run, always measured beside the dense network.

The runs of the two networks alternate, so that a slower machine or other load on it affects both in the same way.
"""

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from pydantic import Field

from src.core.params import Settings

THREADS = 1
LARGE_BATCH = 64
WARM_UP = 10
QUARTILES = (25, 50, 75)


class BenchmarkSettings(Settings):
    """The section ``benchmark`` of params.yaml."""

    runs: int = Field(ge=1, le=100_000)
    batch_runs: int = Field(ge=1, le=100_000)


def noise_images(batch_size: int) -> np.ndarray:
    """Return images of random pixels, float32 [batch_size, 3, 32, 32] in 0..1; the same images at every call."""
    return np.random.default_rng(0).random((batch_size, 3, 32, 32), dtype=np.float32)


def paired_latency(
    network: onnxruntime.InferenceSession, dense: onnxruntime.InferenceSession, batch_size: int, runs: int
) -> dict[str, Any]:
    """Return the latency of ``network`` and of ``dense`` over ``runs`` runs each, in ms for a batch, and their ratio.

    ``ratio`` says how many times faster ``network`` is than ``dense``. It is the median of dense / network over the
    pairs of successive runs: the two runs of a pair see the machine in the same state, which need not be true of the
    two medians.
    """
    feed = {"images": noise_images(batch_size)}
    times = interleave(lambda: network.run(None, feed), lambda: dense.run(None, feed), runs)
    return {
        "network": _latency_metrics(times[:, 0], batch_size),
        "dense": _latency_metrics(times[:, 1], batch_size),
        "ratio": float(np.median(times[:, 1] / times[:, 0])),
    }


def interleave(
    first: Callable[[], object], second: Callable[[], object], runs: int, warm_up: int = WARM_UP
) -> np.ndarray:
    """Call ``first`` and ``second`` in turn and return their times in ms, float64 [runs, 2].

    ``warm_up`` pairs of calls come before and are not in the result. The order changes from pair to pair, so that
    the caches hold the data of the other function equally often for both.
    """
    functions = (first, second)
    times = np.empty((warm_up + runs, 2))
    for pair in range(len(times)):
        for index in (0, 1) if pair % 2 else (1, 0):
            times[pair, index] = milliseconds(functions[index])
    return times[warm_up:]


def milliseconds(run: Callable[[], object]) -> float:
    """Return how long one call of ``run`` takes, in ms."""
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


def _latency_metrics(times: np.ndarray, batch_size: int) -> dict[str, float]:
    """Return median and quartiles of ``times`` (ms for a batch), and images per second at the median."""
    lower, median, upper = map(float, np.percentile(times, QUARTILES))
    return {
        "median_ms": median,
        "lower_quartile_ms": lower,
        "upper_quartile_ms": upper,
        "images_per_second": 1000 * batch_size / median,
    }


def conditions() -> dict[str, Any]:
    """Return what a latency depends on besides the network: threads, processor and versions."""
    return {
        "threads": THREADS,
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "onnxruntime": version("onnxruntime"),
    }


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the processor: on Linux the one in ``cpuinfo``, elsewhere what Python knows of it.

    If no name is known, this is the architecture of the machine.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
