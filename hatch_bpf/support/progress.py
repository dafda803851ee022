"""How far long work is -> a line now and then, for those who watch no bar.

Input: how many of how many are done, again and again. Output: lines with the rate and the time left.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_EVERY = 2.0
"""Seconds between lines."""


class PacedLines:
    """Says nothing of work that is done within a second."""

    def __init__(self, notify: Callable[[str], None], what: str) -> None:
        self._notify = notify
        self._what = what
        self._start = time.monotonic()
        self._next = self._start + 1.0

    def __call__(self, done: int, total: int, _last: object) -> None:
        now = time.monotonic()
        if now < self._next or done == total:
            return
        self._next = now + _EVERY
        rate = done / (now - self._start)
        left = (total - done) / rate
        self._notify(f"{done:,} of {total:,} {self._what}, {rate:,.1f} a second, {left:,.0f} s left")
