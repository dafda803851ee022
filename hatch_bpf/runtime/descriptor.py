"""File descriptors that stay open while anybody uses them. Input: a descriptor number. Output: a `Descriptor`.

The kernel gives the number of a closed descriptor to the next file that is opened. Suppose one thread has just read a
map's number and another closes the skeleton: the first would then enter the kernel with a number that may be a
stranger's map. So maps and programs own their descriptors, which are closed with the last reference to them, and every
call holds a reference while it runs. Python counts references anyway, so this costs a call nothing.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class HasDescriptor(Protocol):
        """A map or a program."""

        @property
        def fd(self) -> int: ...


class Descriptor(int):
    """A descriptor number that is closed when this object goes. Keep this very object, not a copy, to keep it open."""

    __slots__ = ()

    def __del__(self, _close=os.close) -> None:  # type: ignore[no-untyped-def]  # bound here for interpreter shutdown
        try:
            _close(self)
        except OSError:
            pass  # somebody has closed it by its number


def duplicate(fd: int) -> Descriptor:
    """A descriptor of our own for the same file. Raises `OSError` if this process may have no more."""
    return Descriptor(os.dup(fd))


def descriptor_of(item: Any) -> int:
    """The descriptor of a map, a program or anything with a `fileno()`; a number is one already.

    Keep the result until the call that uses it is over: for maps and programs it keeps the file open.
    """
    if isinstance(item, int):
        return item
    return item.fd if hasattr(item, "fd") else item.fileno()  # type: ignore[no-any-return]
