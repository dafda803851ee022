"""What the main function of every command-line tool needs: to end well, and to report at intervals.

with as_command("mytool"), Foo.run() as skel:
    for _ in intervals(1):
        print(skel.maps.counts.drain())
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager

from . import arguments
from .errors import BpfError, InvalidValueError
from .types import as_int, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional


@contextmanager
def as_command(name: str) -> Iterator[None]:
    """Run the body of a command-line tool: errors become one line, and what stops a tool leads out of the block.

    A `BpfError` ends the process with status 1 and `NAME: the message` on standard error. Ctrl-C, SIGTERM, and a reader
    of the output that has gone, as `head` goes, end the block without an error. All of them leave `with` blocks inside,
    so everything is detached. Use it in the main thread, since only that one gets signals.
    """
    before: Any = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
        sys.stdout.flush()
    except BpfError as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Python flushes at its end, and would complain again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        signal.signal(signal.SIGTERM, before)


def intervals(seconds: Optional[float] = None, times: Optional[int] = None) -> Iterator[None]:
    """Yield after every so many seconds, without end or `times` times. Without `seconds` an interval has no end.

    Ctrl-C, and SIGTERM inside `as_command()`, cut an interval short and make it the last: so what was counted in it is
    still reported.
    """
    length = float("inf") if seconds is None else arguments.seconds("seconds", seconds)
    if length < 0:
        raise InvalidValueError(f"seconds can't be {seconds!r}: it must be at least 0, or None")
    times = None if times is None else named("times", as_int, times)
    done = 0
    while times is None or done < times:
        try:
            _wait(length)
        except KeyboardInterrupt:
            times = done
        yield
        done += 1


def _wait(seconds: float) -> None:
    """Sleep for a second at most at a time: a signal that comes just before a sleep is seen only after it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(max(0, min(end - time.monotonic(), 1)))
