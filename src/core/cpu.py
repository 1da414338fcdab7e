"""What Linux says about the processor."""

from pathlib import Path

INFO = Path("/proc/cpuinfo")


def cpu_info(key: str) -> str:
    """Return the first value of ``key`` in `INFO`; "" without such a key or file, as on other systems."""
    lines = INFO.read_text(encoding="utf-8", errors="replace").splitlines() if INFO.exists() else []
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), "")
