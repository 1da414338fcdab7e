"""How long a network takes, always beside the dense one.

Runs of the two take turns, so that a machine that slows down, or a busy neighbour, slows both.
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
BATCH_SIZES = (1, 64)
WARM_UP = 10
QUARTILES = (25, 50, 75)


class BenchmarkSettings(Settings):
    """The section ``benchmark`` of params.yaml."""

    runs: int = Field(ge=1, le=100_000)


def images(batch_size: int) -> np.ndarray:
    """Images of noise, float32 [batch_size, 3, 32, 32] in 0..1, the same at every call."""
    return np.random.default_rng(0).random((batch_size, 3, 32, 32), dtype=np.float32)


def compare(
    network: onnxruntime.InferenceSession, dense: onnxruntime.InferenceSession, batch_size: int, runs: int
) -> dict[str, Any]:
    """Latency of ``network`` and ``dense`` over ``runs`` runs each, in ms a batch, and their ratio.

    ``ratio`` says how many times faster the network is: the median over the pairs of neighbouring runs of
    dense / network. Within a pair the machine is in one state, which the two medians need not share.
    """
    feed = {"images": images(batch_size)}
    times = take_turns(lambda: network.run(None, feed), lambda: dense.run(None, feed), runs)
    return {
        "network": _summary(times[:, 0], batch_size),
        "dense": _summary(times[:, 1], batch_size),
        "ratio": float(np.median(times[:, 1] / times[:, 0])),
    }


def take_turns(
    network: Callable[[], object], dense: Callable[[], object], runs: int, warm_up: int = WARM_UP
) -> np.ndarray:
    """Milliseconds of ``runs`` runs of each, float64 [runs, 2], after ``warm_up`` unmeasured ones.

    Every second pair starts with the other one, so that neither always finds the other's leavings in the cache.
    """
    contestants = (network, dense)
    times = np.empty((warm_up + runs, 2))
    for pair in range(len(times)):
        for who in (0, 1) if pair % 2 else (1, 0):
            times[pair, who] = milliseconds(contestants[who])
    return times[warm_up:]


def milliseconds(run: Callable[[], object]) -> float:
    """How long one call of ``run`` takes."""
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


def _summary(times: np.ndarray, batch_size: int) -> dict[str, float]:
    lower, median, upper = map(float, np.percentile(times, QUARTILES))
    return {
        "median_ms": median,
        "lower_quartile_ms": lower,
        "upper_quartile_ms": upper,
        "images_per_second": 1000 * batch_size / median,
    }


def conditions() -> dict[str, Any]:
    """What a latency depends on besides the network: threads, processor and versions."""
    return {
        "threads": THREADS,
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "onnxruntime": version("onnxruntime"),
    }


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as Linux tells it in ``cpuinfo``; elsewhere what Python knows, at least its architecture."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
