"""The progress of long work: what stages report to, and a line now and then where no bar is shown.

Input: what the stages report as they go. Output: nothing from `Meter`, the base class; lines from `PacedLines`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_EVERY = 2.0
"""Seconds between lines."""


@dataclass(frozen=True)
class Downloaded:
    """The progress of the downloads."""

    files: int
    """Files that are complete."""
    of_files: int
    received: int
    """Bytes."""
    expected: int
    """Bytes of all the files. A file whose size is not known yet counts as the average of the others."""

    def __str__(self) -> str:
        return f"{self.files} of {self.of_files}, {self.received / 1e6:.1f} of {self.expected / 1e6:.1f} MB"


class Meter:
    """Receives the progress of the stages. This base class shows nothing."""

    def downloads(self, downloaded: Downloaded) -> None:
        """More bytes have arrived."""

    def step(self, doing: str, done: int, total: int, name: object) -> None:
        """`done` of `total` equal pieces of work are complete; the last one was `name`."""


class PacedLines(Meter):
    """Writes a line every two seconds, and none for work that takes less than one."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._start = self._next = 0.0

    def step(self, doing: str, done: int, total: int, name: object) -> None:
        now = time.monotonic()
        if not self._start:
            self._start, self._next = now, now + 1.0
        if now < self._next or done == total:
            return
        self._next = now + _EVERY
        rate = done / (now - self._start)
        self._notify(
            f"{doing} {name}: {done:,} of {total:,}, {rate:,.1f} a second, {(total - done) / rate:,.0f} s left"
        )
