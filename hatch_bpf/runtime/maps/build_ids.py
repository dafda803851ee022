"""Stack frames by the files that they are in. Input: a stack, from a map with BPF_F_STACK_BUILD_ID. Output: its frames.

Nothing here is imported before it is used, since `typing` takes long to import.
"""

from __future__ import annotations

from struct import iter_unpack
from typing import NamedTuple


class _Fields(NamedTuple):
    status: int
    build_id: bytes
    """20 bytes; a shorter build id is followed by NULs. All are NUL unless the status is VALID."""
    offset: int
    """In the file if the status is VALID, else the address."""


class BuildIdFrame(_Fields):
    """A stack frame by the file that it is in: (status, build id, offset), `struct bpf_stack_build_id`."""

    __slots__ = ()
    EMPTY, VALID, IP = 0, 1, 2
    """Values of `status`: VALID if the file's build id is known, IP if only the address is."""

    def __repr__(self) -> str:
        return f"BuildIdFrame(status={self.status}, build_id={self.build_id.hex()!r}, offset={self.offset:#x})"


def frames_of(stack: bytes) -> list[BuildIdFrame]:
    """The frames of a stack, innermost first. Behind them the map has empty ones."""
    frames = map(BuildIdFrame._make, iter_unpack("=i20sQ", stack))
    return [frame for frame in frames if frame.status != BuildIdFrame.EMPTY]
