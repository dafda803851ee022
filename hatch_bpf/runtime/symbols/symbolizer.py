"""Addresses to names. Input: addresses of the kernel or of a process, stacks of them. Output: `Frame`s, folded stacks.

symbolizer = Symbolizer()
for frame in symbolizer.symbolize(skel.maps.stacks[stack_id], pid):
    print(frame)
"""

from __future__ import annotations

import os

from ..arguments import c_string, elements
from ..maps.build_ids import BuildIdFrame
from ..types import S32, as_int, named
from .kernel_symbols import KernelSymbols
from .process_symbols import ProcessSymbols
from .symbol_files import SymbolFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Optional, Union

    from .frame import Frame

MOST_PROCESSES = 1024
"""Processes that are remembered; then the one that was seen first is forgotten."""


class Symbolizer:
    """Finds functions by addresses, of the kernel and of processes, and remembers files, processes and answers.

    A new one knows nothing; keep one for as long as you symbolize. Whatever can't be found has the name `[unknown]`.
    """

    def __init__(self, *, demangle: bool = True) -> None:
        """`demangle` makes names of C++ and Rust readable, if a library of this machine can."""
        self._demangle = demangle
        self._files = SymbolFiles()
        self._processes: dict[int, ProcessSymbols] = {}
        self._kernel: Optional[KernelSymbols] = None

    def kernel(self, address: int) -> Frame:
        """The function of the kernel, a module or a BPF program. Raises `SymbolError` if the kernel hides them."""
        return self._frames(self._kernel_symbols(), (address,))[0]

    def user(self, address: int, pid: int) -> Frame:
        """The function of a process (0: this one)."""
        return self._frames(self._process(pid), (address,))[0]

    def symbolize(self, stack: Iterable[Union[int, BuildIdFrame]], pid: Optional[int] = None) -> list[Frame]:
        """The functions of a stack, as a stack map has it: of the kernel, or of a process (0: this one).

        Symbolize a process' stacks while it runs; if it was seen before, also later.
        """
        frames = elements("stack", stack)
        if pid is None:
            addresses = [each.offset if isinstance(each, BuildIdFrame) else each for each in frames]
            return self._frames(self._kernel_symbols(), addresses)
        return self._frames(self._process(pid), frames)

    def kernel_address(self, function: str) -> Optional[int]:
        """Where a function of the kernel is; None if there is none of this name."""
        return self._kernel_symbols().address_of(os.fsdecode(c_string("function", function)))

    def refresh_kernel(self) -> None:
        """Read the kernel's symbols again: modules and BPF programs that were loaded since are unknown until then."""
        self._kernel_symbols().refresh()

    @staticmethod
    def _frames(symbols: Any, stack: Sequence[Union[int, BuildIdFrame]]) -> list[Frame]:
        try:
            return symbols.frames(stack)  # type: ignore[no-any-return]
        except TypeError:
            for each in stack:
                if not isinstance(each, BuildIdFrame):
                    named("address", as_int, each)
            raise

    def _kernel_symbols(self) -> KernelSymbols:
        if self._kernel is None:
            self._kernel = KernelSymbols()
        return self._kernel

    def _process(self, pid: int) -> ProcessSymbols:
        pid = pid or os.getpid()
        found = self._processes.get(pid) if isinstance(pid, int) else None
        if found is None:
            pid = named("pid", S32.put, pid)
            if len(self._processes) >= MOST_PROCESSES:
                del self._processes[next(iter(self._processes))]
            found = self._processes[pid] = ProcessSymbols(pid, self._files, demangle=self._demangle)
        return found
