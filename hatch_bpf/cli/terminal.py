"""Shows the progress of a command on a terminal: as bars if rich is installed, else as one changing line.

Input: what the stages report as they go. Output: to standard error if that is a terminal; otherwise nothing, so that
logs stay short.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from hatch_bpf.support.progress import Downloaded, Meter

_EVERY = 0.1
"""Seconds between drawings of the bars."""


class _Line(Meter):
    """One line, written over and over."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._doing = ""
        self._since = 0.0
        self._first = 0

    def downloads(self, downloaded: Downloaded) -> None:
        pace = self._pace("downloading", downloaded.received, downloaded.expected, unit=" MB", scale=1e-6)
        self._show(f"downloading {downloaded}{pace}")

    def step(self, doing: str, done: int, total: int, name: object) -> None:
        self._show(f"{doing} {done} of {total}{self._pace(doing, done, total)}: {name}")

    def _pace(self, doing: str, done: int, total: int, *, unit: str = "", scale: float = 1) -> str:
        """The rate per second and the time left, once there is enough to estimate them."""
        now = time.monotonic()
        if doing != self._doing or done < self._first:
            self._doing, self._since, self._first = doing, now, done
        passed, came = now - self._since, done - self._first
        if passed < 0.5 or not came:
            return ""
        minutes, seconds = divmod(round(max(total - done, 0) * passed / came), 60)
        return f", {came / passed * scale:.1f}{unit}/s, {minutes}:{seconds:02} left"

    def _show(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\033[K{text[:width]}")
        self._stream.flush()

    def clear(self) -> None:
        """Remove the line."""
        if self._doing:
            self._show("")


_line: _Line | None = None
"""The line that is on the terminal now, if any."""


class _Bars(Meter):
    """rich's bars: one for downloads, and one for each kind of work."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}
        self._drawn = 0.0

    def downloads(self, downloaded: Downloaded) -> None:
        received, expected = downloaded.received, downloaded.expected
        self._update("downloading", received, expected, str(downloaded), unit=" MB", scale=1e-6)

    def step(self, doing: str, done: int, total: int, name: object) -> None:
        self._update(doing, done, total, f"{done} of {total}  {name}", unit="", scale=1)

    def _update(self, doing: str, done: int, total: int, text: str, *, unit: str, scale: float) -> None:
        if doing not in self._tasks:
            self._tasks[doing] = self._progress.add_task(doing, total=total, text="", unit=unit, scale=scale)
        self._progress.update(self._tasks[doing], completed=done, total=total, text=text)
        now = time.monotonic()
        if now - self._drawn > _EVERY or done == total:
            self._drawn = now
            self._progress.refresh()


@contextmanager
def meter() -> Iterator[Meter]:
    """A meter that shows progress on this terminal, and is removed from it when the block ends."""
    if not shows_progress():
        yield Meter()
        return
    progress = _rich_progress()
    if progress is not None:
        with progress:
            yield _Bars(progress)
        return
    global _line
    _line = line = _Line(sys.stderr)
    try:
        yield line
    finally:
        line.clear()
        _line = None


def make_room() -> None:
    """Remove the line, if there is one, before something else is written to standard error."""
    if _line is not None:
        _line.clear()


def shows_progress() -> bool:
    """Whether standard error is a terminal that can overwrite a line."""
    return _is_capable(sys.stderr)


def _is_capable(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal whose user has not switched colours off (no-color.org)."""
    return _is_capable(stream) and not os.environ.get("NO_COLOR")


def console(stream: TextIO) -> Any:
    """rich's console for a terminal; None for other streams, or if rich is not installed."""
    if not _is_capable(stream):
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream, highlight=False, markup=False, emoji=False)


def _rich_progress() -> Any:
    here = console(sys.stderr)
    if here is None:
        return None
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            if not speed:
                return Text("")
            return Text(f"{speed * task.fields['scale']:.1f}{task.fields['unit']}/s")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        Rate(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[text]}", markup=False),
        console=here,
        transient=True,
        # no thread draws, since kernels are read by forked processes
        auto_refresh=False,
    )
