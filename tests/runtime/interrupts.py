"""Exceptions that come where a signal handler may raise one: at random moments, or at each in turn."""

from __future__ import annotations

import dis
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import hatch_bpf.runtime

RUNTIME = str(Path(hatch_bpf.runtime.__file__).parent)


class InterruptError(Exception):
    """What the handler raises."""


class Alarm:
    """A timer whose handler raises `InterruptError`, and how often it did."""

    def __init__(self, seed: int) -> None:
        self.raised = 0
        self.swallowed: list[Any] = []
        """What Python could not raise, for it came in a callback or a finalizer."""
        self._random = random.Random(seed)

    @contextmanager
    def installed(self) -> Iterator[Alarm]:
        before, hook = signal.signal(signal.SIGALRM, self._strike), sys.unraisablehook
        sys.unraisablehook = self.swallowed.append
        try:
            yield self
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            sys.unraisablehook = hook

    def _strike(self, _number: int, _frame: FrameType | None) -> None:
        self.raised += 1
        raise InterruptError

    def run(self, action: Callable[[], object], *, within: float) -> bool:
        """Do something, with one interrupt at a random moment; whether the action ended with it."""
        before = self.raised
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, self._random.uniform(1e-5, within))
                action()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except InterruptError:
            return True
        assert self.raised == before, "the exception was lost"
        return False


class Step:
    """Raises `InterruptError` at one of the moments at which the interpreter would run a signal handler: the `number`th
    that comes while the runtime's own code is executed.

    CPython 3.11 and later look for signals at the start of a function, after a call into C, and at a jump backward.
    """

    def __init__(self, number: int) -> None:
        self._left = number
        self._previous: dict[FrameType, int] = {}
        """The opcode that each frame has executed last."""
        self.where = ""
        self.error: InterruptError | None = None
        """The exception as it came out, with its traceback."""

    def run(self, action: Callable[[], object]) -> bool:
        """Do something; whether it was interrupted."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            action()
        except InterruptError as error:
            self.error = error
            return True
        finally:
            sys.settrace(before)
            self._previous.clear()
        assert not self.where or type(self) is not Step, f"the exception was lost, which came at {self.where}"
        return False

    def strike(self) -> None:
        """What the handler does."""
        raise InterruptError(self.where)

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if self.where:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "return":
            self._previous.pop(frame, None)  # which would keep what it holds
            if frame.f_back is not None:
                self._previous.pop(frame.f_back, None)  # after a call into Python it does not look
        elif event == "opcode":
            opcode = _code_of(frame.f_code)[frame.f_lasti]
            if self._previous.get(frame) in LOOKS_FOR_SIGNALS and frame.f_code.co_filename.startswith(RUNTIME):
                self._left -= 1
                if self._left < 0:
                    self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}, before {dis.opname[opcode]}"
                    self.strike()
            self._previous[frame] = opcode
        return self._trace


LOOKS_FOR_SIGNALS = {
    dis.opmap[name] for name in ("CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD", "RESUME") if name in dis.opmap
}


@cache
def _code_of(code: CodeType) -> bytes:
    return code.co_code
