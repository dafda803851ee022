"""File descriptors that stay open while anybody uses them. Input: a descriptor number. Output: a `Descriptor`.

The kernel gives the number of a closed descriptor to the next file that is opened. Suppose one thread has just read a
map's number and another closes the skeleton: the first would then enter the kernel with a number that may be a
stranger's map. So maps and programs own their descriptors, which are closed with the last reference to them, and every
call holds a reference while it runs. Python counts references anyway, so this costs a call nothing.
"""

from __future__ import annotations

import os
from itertools import chain, starmap
from select import epoll

from .errors import InvalidTypeError, InvalidValueError, MapError, failed
from .onestep import is_no_error
from .types import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from .errors import BpfError

    class HasDescriptor(Protocol):
        """A map or a program."""

        @property
        def fd(self) -> int: ...


HIGHEST = (1 << 31) - 1
"""Descriptors are C ints."""


class Descriptor(int):
    """A descriptor number that is closed when this object goes. Keep this very object, not a copy, to keep it open.

    `select.epoll` does the closing: it closes whatever descriptor it was made from, in C and without a warning. A
    `__del__` in Python would lose the exception of a signal handler that runs during it.
    """

    _owner: epoll


def _owned_by(owner: epoll) -> Descriptor:
    descriptor = int.__new__(Descriptor, owner.fileno())
    descriptor._owner = owner
    return descriptor


def open_descriptor(function: Callable[..., int], *arguments: Any) -> int:
    """Call a C function that opens a descriptor, and own that in the same step. -1 if it returned an error number."""
    for owner in list(map(epoll.fromfd, filter(is_no_error, starmap(function, (arguments,))))):
        return _owned_by(owner)
    return -1


def open_pipe() -> tuple[int, int]:
    """The ends of a pipe, for reading and for writing."""
    read, write = map(_owned_by, list(map(epoll.fromfd, chain.from_iterable(starmap(os.pipe, ((),))))))
    return read, write


def duplicate(fd: int) -> int:
    """A descriptor of our own for the same file. Raises `OSError` if this process may have no more."""
    return open_descriptor(os.dup, fd)


def own_descriptor(what: str, fd: int) -> int:
    """`duplicate()` for a map or program of libbpf's. Raises `MapError` if this process may have no more."""
    try:
        return duplicate(fd)
    except OSError as error:
        raise failed(MapError, f"{what} can't get a descriptor of its own", error.errno or 0) from error


def descriptor_of(item: Any) -> int:
    """The descriptor of a map, a program or anything with a `fileno()`; a number is one already.

    Keep the result until the call that uses it is over: for maps and programs it keeps the file open.
    Raises `InvalidTypeError`, or `InvalidValueError` for a file that is closed.
    """
    if isinstance(item, bool):
        raise InvalidTypeError("must be a descriptor, not bool")
    number: Any = item
    if hasattr(item, "fd"):
        number = item.fd
    elif hasattr(item, "fileno"):
        try:
            number = item.fileno()
        except (OSError, ValueError) as error:
            raise InvalidValueError(f"{type(item).__name__} has no descriptor: {error}") from error
    if not hasattr(number, "__index__"):
        what = "a map, a program, a descriptor or anything with a fileno()"
        raise InvalidTypeError(f"must be {what}, not {type(item).__name__}")
    if not 0 <= number <= HIGHEST:
        raise InvalidValueError(f"{shown(number)} is no descriptor of an open file")
    return number  # type: ignore[no-any-return]


def check_is(noun: str, fd: int, what: str, error: type[BpfError]) -> None:
    """Check that a descriptor is that of a `map`, a `program` or a `link`. Raises an error of this type."""
    try:
        kind = os.readlink(f"/proc/self/fd/{fd}").partition("anon_inode:")[2].strip("[]")
    except OSError as caught:
        raise failed(error, f"{what} can't be looked up", caught.errno or 0) from caught
    found = {"bpf-map": "map", "bpf-prog": "program", "bpf-link": "link", "bpf_link": "link"}.get(kind)
    if found != noun:
        raise error(f"{what} is {f'a {found}' if found else 'something else'}, not a {noun}")
