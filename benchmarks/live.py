"""Events of a process that makes system calls, as they come: one side of a comparison. Input: a poll function.

Output: one line of JSON. Run by two Pythons, so it imports nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


class Load:
    """`calls`, on the first CPU; who reads the events is on the others."""

    def __init__(self, program: str, seconds: float) -> None:
        cpus = sorted(os.sched_getaffinity(0))
        self._process = subprocess.Popen(
            [program, str(seconds)], stdin=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, cpus[:1])
        )
        os.sched_setaffinity(0, cpus[1:] or cpus)
        self.pid = self._process.pid
        self.first = 0.0
        """When the first event was read; set by who reads it."""

    def measure(self, poll: Callable[[], int], lost: Callable[[], int]) -> None:
        """Call `poll`, which returns how many events it has read, until there are no more; print what it came to."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"x")
        self._process.stdin.flush()
        start, cpu = time.monotonic(), time.process_time()
        events = 0
        while self._process.poll() is None:
            events += poll()
        seconds = time.monotonic() - start
        more = poll()
        while more:
            events += more
            more = poll()
        found: dict[str, Any] = {"events": events, "seconds": seconds, "lost": lost(), "first": self.first}
        found["cpu"] = time.process_time() - cpu
        with open("/proc/self/status", encoding="ascii") as file:  # getrusage() would count the parent's memory
            found["memory"] = 1024 * int(file.read().split("VmHWM:")[1].split()[0])
        json.dump(found, sys.stdout)
