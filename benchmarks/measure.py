"""Measuring two things in turns. Input: what to run. Output: a figure for each, of the same run of the machine."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def interleaved(
    ours: Callable[[], float], theirs: Callable[[], float], *, rounds: int, pick: Callable[[list[float]], float] = min
) -> tuple[float, float]:
    """Ours, the reference, ours, the reference, ...: of what each returns, the least, or what else `pick` makes of it.

    Each runs once before that counts, to fill caches. Costs want `min`, what nothing disturbed; rates want `max`;
    what differs from run to run by its own nature `statistics.median`.
    """
    ours(), theirs()
    found: list[tuple[float, float]] = [(ours(), theirs()) for _ in range(rounds)]
    return pick([ours for ours, _ in found]), pick([theirs for _, theirs in found])


median: Callable[[list[float]], float] = statistics.median


def cpu_seconds(
    command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> float:
    """CPU time, user and system, of a command and of all the processes it waited for. Raises if it fails."""
    return _run(command, cwd=cwd, env=env)[0]


def wall_seconds(
    command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> float:
    """The time a command takes on the clock: for what spreads over processors. A machine with other work to do lies."""
    return _run(command, cwd=cwd, env=env)[1]


def peak_bytes(command: Sequence[str | Path]) -> float:
    """The most memory that a command's largest process has. Raises if it fails."""
    return _run(command, cwd=None, env=None)[2]


def _run(
    command: Sequence[str | Path], *, cwd: Path | None, env: Mapping[str, str] | None
) -> tuple[float, float, float]:
    start = time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in command], cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed with status {process.returncode}: {errors.strip()}")
    return usage.ru_utime + usage.ru_stime, wall, 1024 * usage.ru_maxrss


def wall_of(work: Callable[[], object]) -> float:
    """The time a call takes on the clock, with all the processes that it starts."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu_of(work: Callable[[], object]) -> float:
    """CPU time of a call in this process."""
    start = time.process_time()
    work()
    return time.process_time() - start
