"""What applications pass to methods: names, paths, times, lists. Input: any value, and what it is. Output: the same as
what its user takes.

A value of another type is an `InvalidTypeError` that says what belongs there. `types.named()` is for numbers.
"""

from __future__ import annotations

import os

from .errors import InvalidTypeError, InvalidValueError
from .types import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")


def c_string(what: str, value: Any, kind: str = "a str") -> bytes:
    """A name or a path as bytes. A NUL in it is refused, since a C string would end there without a word."""
    try:
        text = os.fsencode(value)
    except TypeError:
        raise InvalidTypeError(f"{what} must be {kind}, not {type(value).__name__}") from None
    except UnicodeEncodeError as error:
        raise InvalidValueError(f"{what} can't be {value!r}: {error.reason}") from None
    if b"\0" in text:
        raise InvalidValueError(f"{what} can't be {value!r}: C strings end at a NUL")
    return text


def path_argument(what: str, value: Any) -> str:
    """A path."""
    return os.fsdecode(c_string(what, value, "a path"))


LONGEST_WAIT = 1 << 30
"""34 years, in seconds. A larger int may not fit a float."""


def seconds(what: str, value: Any) -> float:
    """A time in seconds, of any length: one beyond `LONGEST_WAIT` is taken for that."""
    if not isinstance(value, (int, float)):
        raise InvalidTypeError(f"{what} must be a number of seconds or None, not {type(value).__name__}")
    if value != value:
        raise InvalidValueError(f"{what} can't be NaN: it must be a number of seconds or None")
    return max(-LONGEST_WAIT, min(value, LONGEST_WAIT))


def choice(what: str, value: Any, choices: Mapping[str, T]) -> T:
    """What one of a few names means."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidValueError(f"{what} must be one of {', '.join(choices)} (got {shown(value)})")
    return choices[value]


def elements(what: str, values: Iterable[T]) -> list[T]:
    """A list of what the application passed as one. A single name is refused, though it is a sequence of letters."""
    try:
        if isinstance(values, (str, bytes)):
            raise TypeError
        return list(values)
    except TypeError:
        raise InvalidTypeError(f"{what} must be a list, not {type(values).__name__}") from None
