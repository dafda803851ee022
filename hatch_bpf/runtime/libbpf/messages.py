"""What libbpf says, for each thread. Input: calls of libbpf in a `with Capture(libbpf)`. Output: the lines it printed.

libbpf prints through a callback, of which a process has one for each libbpf that it has loaded. A callback in Python
would lose the exception of a signal handler that runs during it, so no Python runs there: the callback is the C
library's vdprintf(), which writes straight into a file of the calling thread's.
"""

from __future__ import annotations

import ctypes
import os
import sys
from _thread import _local  # threading costs more to import than all of this module
from itertools import repeat

from ..host.memory_files import memory_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Optional

    from .library import Libbpf

WARN, INFO, DEBUG = 0, 1, 2
"""`enum libbpf_print_level`."""
_LOGGING_LEVELS = {WARN: 30, INFO: 20, DEBUG: 10}
_PREFIX = "libbpf: "
"""How libbpf begins every message."""


class _Sink(_local):
    """Where messages of one level go: in each thread a descriptor, by the attribute that ctypes looks at."""

    _as_parameter_ = -1
    """Nowhere. Not for many messages: before glibc 2.37 vdprintf() leaks 4 KB where it can't write."""


def shared() -> Any:
    """The sinks and the callback, which all packages with this runtime share: of each libbpf's callbacks the last one
    that was set is called in every thread, whichever package set it."""
    if _kept:
        return _kept[0]
    name = "_hatch_bpf_messages_1"
    made: Any = type(sys)(name)
    made.sinks = (_Sink(), _Sink(), _Sink())

    class ByLevel(ctypes.c_int):
        from_param = made.sinks.__getitem__  # ctypes calls this with the level, for the descriptor

    vdprintf = ctypes.CDLL(None).vdprintf
    vdprintf.argtypes = (ByLevel, ctypes.c_void_p, ctypes.c_void_p)
    # use_errno: libbpf finds its errno as it was before the call
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, use_errno=True)
    made.callback = prototype(vdprintf)
    made.address = ctypes.cast(made.callback, ctypes.c_void_p).value
    _kept.append(sys.modules.setdefault(name, made))
    return _kept[0]


_kept: list[Any] = []
"""What `shared()` returned: not made before it is needed, and kept as long as the process lives."""


class Capture:
    """`with Capture(libbpf) as said:` collects what libbpf says in this thread. Leaving the block passes it to logging,
    whose logger is `libbpf`. Not to be nested."""

    def __init__(self, libbpf: Libbpf) -> None:
        self._libbpf = libbpf
        self._files: dict[int, int] = {}

    def __enter__(self) -> Capture:
        try:
            for level in _LOGGING_LEVELS:  # each into a file, also those that nobody reads: see `_Sink`
                self._files[level] = memory_file("libbpf")
                # the very object, so that the file stays open as long as it is written to
                shared().sinks[level]._as_parameter_ = self._files[level]
            # set every time, for others may set theirs
            self._libbpf.libbpf_set_print(shared().address)
        except BaseException:
            stop_capturing()
            raise
        return self

    @property
    def lines(self) -> list[str]:
        """What libbpf has said so far: information first, then warnings."""
        return [line for level in (INFO, WARN) for message in self._messages(level) for line in message.split("\n")]

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> None:
        stop_capturing()
        for level in self._files:
            logger = _logger(level)
            for message in self._messages(level) if logger else ():
                try:
                    logger.log(_LOGGING_LEVELS[level], "%s", message)
                except Exception as failure:
                    if error is None:
                        raise
                    # what went wrong with libbpf matters more than a handler that can't write it down
                    raise error from failure

    def _messages(self, level: int) -> list[str]:
        fd = self._files[level]
        text = os.pread(fd, os.fstat(fd).st_size, 0).decode("utf-8", "backslashreplace")
        return [message.rstrip("\n") for message in f"\n{text}".split(f"\n{_PREFIX}")[1:]]


def stop_capturing() -> None:
    """Let messages of this thread go nowhere again. Leaving the block does so, unless an exception interrupts that."""
    list(map(setattr, shared().sinks, repeat("_as_parameter_"), repeat(-1)))


def _logger(level: int) -> Any:
    """The logger `libbpf`, or None if nobody would see this level. Nobody does unless logging is imported."""
    if "logging" not in sys.modules:
        return None
    import logging

    logger = logging.getLogger("libbpf")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())  # failures carry their messages; don't print them twice
    return logger if logger.isEnabledFor(_LOGGING_LEVELS[level]) else None


def verifier_logs(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Name of the program and the verifier's log, for each rejected program of which libbpf printed one."""
    program = ""
    log: Optional[list[str]] = None
    for line in lines:
        if "BEGIN PROG LOAD LOG" in line:
            program, log = line.split("'")[1] if line.count("'") >= 2 else "?", []
        elif "END PROG LOAD LOG" in line and log is not None:
            yield program, "\n".join(log)
            log = None
        elif log is not None:
            log.append(line)


def without_optional_btf(lines: Sequence[str]) -> list[str]:
    """The lines without those about the object's own BTF, where libbpf went on without it.

    Old kernels (4.18 to 5.x) refuse kinds of BTF that they do not know, and log all types before the first of these.
    """
    if not any("BTF is optional, ignoring" in line for line in lines):
        return list(lines)
    kept, is_dump = [], False
    for line in lines:
        is_dump = is_dump or line.startswith("-- BEGIN BTF LOAD LOG")
        if not is_dump and not line.startswith(("BTF loading error: ", "Error loading .BTF into kernel: ")):
            kept.append(line)
        is_dump = is_dump and not line.startswith("-- END BTF LOAD LOG")
    return kept
