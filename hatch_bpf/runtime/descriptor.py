"""File descriptors that live as long as somebody uses them. Input: a descriptor of libbpf's. Output: a `Descriptor`.

The kernel gives the number of a closed descriptor to the next file that is opened. A thread that has just looked up a
map's number must not go into the kernel with it after another thread closed the skeleton: it would work on a stranger's
map. So maps and programs have descriptors of their own, which are closed with the last reference to them; a call that
is under way holds one. Python counts these references anyway, so that this costs the calls nothing.
"""

from __future__ import annotations

import os


class Descriptor(int):
    """A descriptor's number, which is closed when it goes. To keep it open, keep this object: not a copy."""

    __slots__ = ()

    def __del__(self, _close=os.close) -> None:  # type: ignore[no-untyped-def]  # kept here for when Python ends
        try:
            _close(self)
        except OSError:
            pass  # somebody has closed it by its number


def duplicate(fd: int) -> Descriptor:
    """One of our own for the same file. Raises `OSError` where this process may have no more."""
    return Descriptor(os.dup(fd))
