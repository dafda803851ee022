"""How many guests run at a time, by this machine's cores and free memory. Input: a guest's memory. Output: a number."""

from __future__ import annotations

from pathlib import Path

from hatch_bpf.support.workers import processors

_MEMINFO = Path("/proc/meminfo")
_SPARE = 512
"""Megabytes that are left to this machine."""


def guests_at_a_time(megabytes: int) -> int:
    """At least one."""
    return max(1, min(processors(), (_free_megabytes() - _SPARE) // megabytes))


def _free_megabytes() -> int:
    for line in _MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0
