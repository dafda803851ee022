"""How many guests run at a time, by this machine's cores and free memory. Input: a guest's memory. Output: a number."""

from __future__ import annotations

from pathlib import Path

from hatch_bpf.support.workers import processors

_MEMINFO = Path("/proc/meminfo")
_SPARE = 512
"""Megabytes that are left to this machine."""


def guests_at_a_time(megabytes: int) -> int:
    """At least one."""
    memory = dict(line.split(":") for line in _MEMINFO.read_text().splitlines())
    available = int(memory["MemAvailable"].split()[0]) // 1024
    return max(1, min(processors(), (available - _SPARE) // megabytes))
