"""Call a C function and keep its result in one step. Input: the function. Output: its result, in a list.

Python runs signal handlers between bytecodes, so Ctrl-C may raise an exception right after a C function has returned
and before its result is stored: what it made would stay open for ever. There is no bytecode inside an iterator that is
written in C and calls a function that is written in C. So these steps are either done or not begun.
"""

from __future__ import annotations

from itertools import compress, repeat, starmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

is_no_error = (0).__le__
"""Whether a number that a C function returned means success. Itself a C function, so that a step may call it."""


def keep_pointer(kept: list[tuple[Any, ...]], function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function that makes something, and append the pointer to it as a tuple; nothing if it returned NULL."""
    kept.extend(zip(filter(None, starmap(function, (arguments,)))))


def keep_undo(kept: list[Any], undo: Any, function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function that changes something, and append what undoes it, unless it returned an error."""
    kept.extend(compress((undo,), map(is_no_error, starmap(function, (arguments,)))))


def release(kept: list[tuple[Any, ...]], function: Callable[..., Any]) -> list[Any]:
    """Call a function with each of the tuples, the last one first, and remove that tuple. Return the results."""
    return list(starmap(function, map(list.pop, repeat(kept, len(kept)))))
