"""How many guests run at a time, by this machine's cores and free memory. Input: a guest's memory. Output: a number."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_SPARE = 512
"""Megabytes that are left to this machine."""


def guests_at_a_time(megabytes: int) -> int:
    """At least one."""
    return max(1, min(_cores(), (_free_megabytes() - _SPARE) // megabytes))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _free_megabytes() -> int:
    for line in _MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0
