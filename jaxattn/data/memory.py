"""Whether arrays fit into the memory that is there, before they are made."""

import os
from pathlib import Path

import numpy as np

SHARE = 0.8
"""Of the memory that is free, what data may take."""
_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def available() -> int:
    """Bytes that are free: of the machine, or of the container where that is less."""
    free = _of_machine()
    for limit, used in _LIMITS:
        try:
            left = int(Path(limit).read_text()) - int(Path(used).read_text())
            free = min(free, max(left, 0))
        except (OSError, ValueError):
            continue  # no such limit, or "max"
    return free


def _of_machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return np.iinfo(np.int64).max


def check_fits(needed: int, what: str, hint: str) -> None:
    """Raises ValueError, with the hint, where `needed` bytes are not there."""
    free = available()
    if needed > SHARE * free:
        raise ValueError(
            f"{what} need {needed / 1e9:,.1f} GB and {free / 1e9:,.1f} GB are free: "
            f"{hint}"
        )
