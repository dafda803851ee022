"""Functions of the kernel, its modules and its BPF programs. Input: /proc/kallsyms. Output: names by address."""

from __future__ import annotations

from operator import itemgetter

from ..errors import SymbolError
from ..types import as_int
from .frame import KERNEL, UNKNOWN, Frame, new_frame, remember
from .function_table import FunctionTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Optional

KALLSYMS = "/proc/kallsyms"
CODE = "tTwW"
"""Letters of functions, as nm(1) has them."""
LONGEST = 1 << 16
"""Bytes that the last function before a gap reaches at most: kallsyms has no sizes."""


class KernelSymbols:
    """The kernel's functions, as they were when this was made, or at the last `refresh()`."""

    def __init__(self) -> None:
        self._kernel: FunctionTable[str] = FunctionTable(())
        self._modules: FunctionTable[tuple[str, str]] = FunctionTable(())
        """Those of modules and BPF programs, by name and module."""
        self._frames: dict[int, Frame] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read them again: modules and BPF programs come and go. Raises `SymbolError` if the kernel hides them."""
        try:
            with open(KALLSYMS, "rb") as file:
                lines = file.read().decode("ascii", "backslashreplace").splitlines()
        except OSError as error:
            raise SymbolError(f"{KALLSYMS} can't be read: {error.strerror}", errno=error.errno or 0) from error
        symbols: dict[int, list[str]] = {}
        for words in map(str.split, lines):
            address = int(words[0], 16)
            if address not in symbols or symbols[address][1] not in CODE:  # of several names the first
                symbols[address] = words
        if not any(symbols):
            raise SymbolError(
                f"{KALLSYMS} shows no addresses to this process: it needs CAP_SYSLOG, and "
                "/proc/sys/kernel/kptr_restrict must not be 2"
            )
        functions = list(_functions(sorted(symbols.items(), key=itemgetter(0))))
        self._kernel = FunctionTable((start, end, words[2]) for start, end, words in functions if len(words) == 3)
        self._modules = FunctionTable(
            (start, end, (words[2], words[3])) for start, end, words in functions if len(words) > 3
        )
        self._frames.clear()

    def address_of(self, name: str) -> Optional[int]:
        """Where a function is; None if there is none of this name."""
        found = self._kernel.start_of(lambda label: label == name)
        return self._modules.start_of(lambda label: label[0] == name) if found is None else found

    def frames(self, addresses: Iterable[int]) -> list[Frame]:
        """The functions that addresses are in."""
        known = self._frames.get
        return [known(address) or self._look_up(address) for address in addresses]

    def _look_up(self, address: int) -> Frame:
        address = as_int(address)  # of NumPy's as well
        found = self._kernel.find(address)
        if found is not None:
            name, start = found
            frame = new_frame(Frame, (name, address - start, KERNEL, address))
        else:
            in_module = self._modules.find(address)
            (name, module), start = in_module or ((UNKNOWN, KERNEL), 0)
            frame = Frame(name, address - start, module, address)
        remember(self._frames, address, frame)
        return frame


def _functions(symbols: list[tuple[int, list[str]]]) -> Iterator[tuple[int, int, list[str]]]:
    """Start, end and line of each function. Data is skipped; a function ends where any symbol begins."""
    following = [address for address, _ in symbols[1:]] + [symbols[-1][0] + LONGEST]
    for (start, words), end in zip(symbols, following):
        if words[1] in CODE:
            yield start, min(end, start + LONGEST), words
