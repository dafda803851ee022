"""An address and the function that it is in. Input: what a symbol table said. Output: a `Frame`."""

from __future__ import annotations

import os

UNKNOWN = "[unknown]"
"""Name of a function of which no symbol is known, and of a file that is not known: bcc's and perf's word."""
KERNEL = "[kernel]"
"""Module of the kernel itself."""


class Frame(tuple):  # type: ignore[type-arg]
    """An address in words: (name, offset, module, address). `str(frame)` is `name+0x1c [module]`."""

    __slots__ = ()

    def __new__(cls, name: str, offset: int, module: str, address: int) -> Frame:
        return super().__new__(cls, (name, offset, module, address))

    def __getnewargs__(self) -> tuple[str, int, str, int]:
        return self.name, self.offset, self.module, self.address

    @property
    def name(self) -> str:
        """The function; `[unknown]` if no symbol covers the address."""
        return self[0]  # type: ignore[no-any-return]

    @property
    def offset(self) -> int:
        """Bytes from the function's start. Of an unknown function the offset in the file, if that is known."""
        return self[1]  # type: ignore[no-any-return]

    @property
    def module(self) -> str:
        """Path of the program or library; `[kernel]`, `[ext4]` for a kernel module, `[bpf]`; else `[unknown]`."""
        return self[2]  # type: ignore[no-any-return]

    @property
    def address(self) -> int:
        return self[3]  # type: ignore[no-any-return]

    @property
    def is_known(self) -> bool:
        """Whether the function is known."""
        return self[0] is not UNKNOWN and self[0] != UNKNOWN

    def __str__(self) -> str:
        module = os.path.basename(self.module).strip("[]")
        return f"{self.name}+{self.offset:#x} [{module}]"

    def __repr__(self) -> str:
        return f"Frame(name={self.name!r}, offset={self.offset:#x}, module={self.module!r}, address={self.address:#x})"


new_frame = tuple.__new__
"""`new_frame(Frame, (name, offset, module, address))` makes a frame in half the time, for those who make millions."""
