"""An address and the function that it is in. Input: what a symbol table said. Output: a `Frame`."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

UNKNOWN = "[unknown]"
"""Name of a function or a file that is not known, as in bcc and perf."""
MOST_FRAMES = 1 << 16
"""Addresses that are remembered of the kernel, and of each process."""
KERNEL = "[kernel]"
"""Module of the kernel itself."""


class Frame(NamedTuple):
    """An address in words: (name, offset, module, address). `str(frame)` is `name+0x1c [module]`."""

    name: str
    """The function; `[unknown]` if no symbol covers the address."""
    offset: int
    """Bytes from the function's start; for an unknown function the offset in the file, if that is known."""
    module: str
    """Path of the program or library; `[kernel]`, `[ext4]` for a kernel module, `[bpf]`; else `[unknown]`."""
    address: int

    @property
    def is_known(self) -> bool:
        """Whether the function is known."""
        return self.name != UNKNOWN

    def __str__(self) -> str:
        module = os.path.basename(self.module).strip("[]")
        return f"{self.name}+{self.offset:#x} [{module}]"

    def __repr__(self) -> str:
        return f"Frame(name={self.name!r}, offset={self.offset:#x}, module={self.module!r}, address={self.address:#x})"


def remember(frames: dict[Any, Frame], key: object, frame: Frame) -> None:
    """Keep the frame of an address, and no more than `MOST_FRAMES` of them."""
    if len(frames) >= MOST_FRAMES:
        frames.clear()
    frames[key] = frame


new_frame = tuple.__new__
"""`new_frame(Frame, (name, offset, module, address))` makes a frame in half the time, for those who make millions."""
