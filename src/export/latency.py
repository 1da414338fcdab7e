"""How long networks take to run, all measured in turn in one process.

The networks take turns in blocks of calls. The blocks of one round lie close together in time, so that a slower machine
or other load on it affects all networks in the same way. Within a block the calls of one network follow each other, so
that the processor's caches hold its weights, as they do where the network runs alone. Cold calls are the opposite: each
network is called once, and then the next one. Needs no PyTorch.
"""

import platform
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from onnxruntime import InferenceSession
from pydantic import Field

from src.core.cpu import cpu_info
from src.core.params import Settings
from src.core.progress import progress
from src.core.recipes import DENSE
from src.export.runtime import INPUT, VNNI, input_side

THREADS = 1
LARGE_BATCH = 64
QUARTILES = (25, 50, 75)
RESAMPLES, COVERED = 1000, (2.5, 97.5)  # of the interval of a ratio, and its percentiles: 95 %
INSTRUCTION_SETS = {  # the flags of Linux of which a processor with these instructions has at least one
    "AVX2": {"avx2"},
    "AVX512": {"avx512f"},
    "VNNI": VNNI,
    "AMX": {"amx_int8", "amx_tile"},
}


class BenchmarkSettings(Settings):
    """The section ``benchmark`` of params.yaml."""

    blocks: int = Field(ge=1, le=1000)
    calls: int = Field(ge=1, le=100_000)
    batch_calls: int = Field(ge=1, le=100_000)


def noise_images(batch_size: int, side: int) -> np.ndarray:
    """Return images of random pixels, float32 [batch_size, 3, side, side] in 0..1; the same images at every call."""
    return np.random.default_rng(0).random((batch_size, 3, side, side), dtype=np.float32)


def timings(
    sessions: Mapping[str, InferenceSession], settings: BenchmarkSettings
) -> dict[str, dict[str, dict[str, float]]]:
    """Return by recipe its `latencies` of one image (b1), the same in cold calls (b1_cold), and of a large batch."""
    kinds: dict[str, tuple[int, int, int, bool]] = {
        "b1": (1, settings.blocks, settings.calls, True),
        "b1_cold": (1, settings.blocks * settings.calls, 1, False),
        f"b{LARGE_BATCH}": (LARGE_BATCH, settings.blocks, settings.batch_calls, True),
    }
    found = {kind: latencies(sessions, *numbers) for kind, numbers in kinds.items()}
    return {recipe: {kind: times[recipe] for kind, times in found.items()} for recipe in sessions}


def latencies(
    sessions: Mapping[str, InferenceSession], batch_size: int, blocks: int, calls: int, warm: bool = True
) -> dict[str, dict[str, float]]:
    """Return the latency of each of ``sessions``, by its recipe; the recipe dense must be among them.

    A latency has the keys ``median_ms``, ``lower_quartile_ms`` and ``upper_quartile_ms`` (in ms for a batch of
    ``batch_size`` images, over all blocks), ``images_per_second`` at the median, and ``ratio``, which says how many
    times faster the recipe is than dense. ``ratio`` is the median over the rounds of `round_robin` of (median of
    dense's block / median of the recipe's block): the two blocks of a round see the machine in the same state, which
    need not be true of all blocks. ``ratio_low`` and ``ratio_high`` are its 95 % interval over the rounds (bootstrap).
    ``warm``: as for `round_robin`.
    """
    feed = {INPUT: noise_images(batch_size, input_side(sessions[DENSE]))}
    networks = {recipe: partial(network.run, None, feed) for recipe, network in sessions.items()}
    description = f"benchmark, batch of {batch_size}{'' if warm else ', cold'}"
    times = round_robin(networks, blocks, calls, description, warm)
    return {recipe: _latency(own, times[DENSE], batch_size) for recipe, own in times.items()}


def round_robin(
    networks: Mapping[str, Callable[[], object]],
    blocks: int,
    calls: int,
    description: str | None = None,
    warm: bool = True,
) -> dict[str, np.ndarray]:
    """Return how long calls of ``networks`` take, by name, in ms, float64 [blocks, calls].

    Goes ``blocks`` times through all networks. Each time a network is called once without being timed if ``warm``,
    because the caches still hold the data of the network before it, and then ``calls`` times in succession. With a
    ``description`` the progress is shown under this name, between the rounds.
    """
    times = {name: np.empty((blocks, calls)) for name in networks}
    for block in progress(range(blocks), blocks, description, "rounds"):
        for name, run in networks.items():
            if warm:
                run()
            times[name][block] = [milliseconds(run) for _ in range(calls)]
    return times


def milliseconds(run: Callable[[], object]) -> float:
    """Return how long one call of ``run`` takes, in ms."""
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


def _latency(own: np.ndarray, dense: np.ndarray, batch_size: int) -> dict[str, float]:
    """Return a latency as described in `latencies`, from times of the recipe and of dense, in ms [blocks, calls]."""
    lower, median, upper = map(float, np.percentile(own, QUARTILES))
    ratios = np.median(dense, axis=1) / np.median(own, axis=1)
    drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = map(float, np.percentile(np.median(drawn, axis=1), COVERED))
    return {
        "median_ms": median,
        "lower_quartile_ms": lower,
        "upper_quartile_ms": upper,
        "images_per_second": 1000 * batch_size / median,
        "ratio": float(np.median(ratios)),
        "ratio_low": low,
        "ratio_high": high,
    }


def conditions() -> dict[str, Any]:
    """Return what a latency depends on besides the network: threads, processor and versions."""
    return {
        "threads": THREADS,
        "cpu": cpu_name(),
        "instruction_sets": instruction_sets(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "onnxruntime": version("onnxruntime"),
    }


def cpu_name() -> str:
    """Return the name of the processor, or the architecture of the machine where no name is known."""
    return cpu_info("model name") or platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Return the names in `INSTRUCTION_SETS` that the processor has, in order; none if its flags are unknown."""
    flags = set(cpu_info("flags").split())
    return [name for name, signs in INSTRUCTION_SETS.items() if flags & signs]
