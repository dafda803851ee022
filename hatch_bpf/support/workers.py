"""A function and its jobs -> its results in the jobs' order, computed by one process for each processor.

Input: a function of one job, and the jobs. Output: an iterator over the results, which raises the function's errors. An
interruption ends the processes at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_work: tuple[Callable[[Any], object], Sequence[object]] | None = None
"""The processes' work: they inherit it, so neither the function nor its data have to be sent."""


def run_all(function: Callable[[Job], Result], jobs: Sequence[Job], *, alone: float = 0) -> Iterator[Result]:
    """Do the jobs, in this process for the first `alone` seconds: others take longer to start than a few quick jobs."""
    start, done = time.monotonic(), 0
    # elsewhere a process starts afresh, or may not be forked from
    can_fork = sys.platform.startswith("linux")
    while done < len(jobs) and not (can_fork and time.monotonic() - start >= alone):
        yield function(jobs[done])
        done += 1
    processes = min(processors(), len(jobs) - done)
    if processes < 2:
        yield from map(function, jobs[done:])
        return
    import multiprocessing  # late, since most builds do their few jobs without

    global _work
    _work = (function, jobs)
    # few at a time while there are few, so that the last processor is not left alone with many
    chunk = max(1, min(16, len(jobs) // (processes * 32)))
    try:
        with multiprocessing.get_context("fork").Pool(processes, _ignore_interrupts) as pool:
            yield from pool.imap(_do, range(done, len(jobs)), chunk)
    finally:
        _work = None


def _do(number: int) -> Any:
    assert _work is not None
    function, jobs = _work
    return function(jobs[number])


def _ignore_interrupts() -> None:
    """The process that started these ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def processors() -> int:
    """How many of this machine's processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
