"""What the benchmarks share: timing in pairs, the rate of matrix products, memory, and pages with a section per CPU."""

import platform
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from src.core.files import atomic
from src.core.params import PARAMS, read_yaml, validate
from src.data.prepared import Split
from src.export.latency import cpu_name, milliseconds
from src.network.vgg import ModelSettings, Plan, vgg_plan

CLEAR_PEAK, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
MATRIX_SIDE, MATRIX_PRODUCTS = 2048, 10
CLASSES = range(10)  # of the noise


def read_plan() -> Plan:
    """Return the network of params.yaml for images as those of CIFAR-10; `ParamsError` for the first mistake there."""
    return vgg_plan(validate(ModelSettings, read_yaml(PARAMS).get("model"), "model"), len(CLASSES), side=32)


def noise(count: int, plan: Plan) -> Split:
    """Return ``count`` images of noise for a network of ``plan``; the speed does not depend on what images show."""
    images = torch.randint(0, 256, (count, 3, plan.side, plan.side), dtype=torch.uint8)
    return Split(images, torch.arange(count) % plan.classes)


def matrix_products(device: torch.device, precision: torch.dtype) -> Callable[[], None]:
    """Return a function that multiplies two matrices of ``precision`` `MATRIX_PRODUCTS` times."""
    first, second = torch.randn(2, MATRIX_SIDE, MATRIX_SIDE, device=device).to(precision)

    def products() -> None:
        for _ in range(MATRIX_PRODUCTS):
            torch.mm(first, second)

    return products


def matrix_rates(seconds: np.ndarray) -> np.ndarray:
    """Return the rates, in FLOP per second, of calls of `matrix_products` that took ``seconds``."""
    return 2 * MATRIX_SIDE**3 * MATRIX_PRODUCTS / seconds


def interleave(first: Callable[[], object], second: Callable[[], object], runs: int, warm_up: int) -> np.ndarray:
    """Return the seconds of calls of ``first`` and ``second`` in turn, float64 [runs, 2].

    ``warm_up`` pairs of calls come before and are not in the result. The order changes from pair to pair, so that
    the caches hold the data of the other function equally often for both.
    """
    functions = (first, second)
    times = np.empty((warm_up + runs, 2))
    for pair in range(len(times)):
        for index in (0, 1) if pair % 2 else (1, 0):
            times[pair, index] = milliseconds(functions[index]) / 1000
    return times[warm_up:]


def peak_memory(function: Callable[[], object], device: torch.device) -> float:
    """Return the most bytes in use while ``function`` runs: tensors on a GPU, the process on a Linux CPU, else NaN."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif CLEAR_PEAK.exists():
        CLEAR_PEAK.write_text("5", encoding="ascii")
    function()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if not STATUS.exists():
        return float("nan")
    line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def write_section(page: Path, introduction: str, device: torch.device, lines: list[str]) -> None:
    """Print ``lines``, measured on ``device``, and write them to ``page`` as its section; those of others stay."""
    gpu = device.type == "cuda"
    where = torch.cuda.get_device_name() if gpu else f"{cpu_name()}, {torch.get_num_threads()} threads"
    section = "\n".join(
        [f"## {where}", "", f"PyTorch {torch.__version__}, Python {platform.python_version()}.", *lines]
    )
    print(section)
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    with atomic(page) as temporary:
        temporary.write_text(with_section(before, section, introduction), encoding="utf-8")


def with_section(text: str, section: str, introduction: str) -> str:
    """Return ``introduction`` and the sections of ``text``; ``section`` replaces one with the same heading."""
    sections = [part.rstrip() for part in re.split(r"(?m)^(?=## )", text) if part.startswith("## ")]
    heading = section.splitlines()[0]
    others = [part for part in sections if part.splitlines()[0] != heading]
    return "\n\n".join([introduction, *others, section]) + "\n"
