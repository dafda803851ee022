"""Base classes of generated enums: an IntEnum and an IntFlag that take any value, since a C enum may hold any.

A module of its own, so that only skeletons with enums pay for importing it.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class CEnum(IntEnum):
    """A C enum. A value that no enumerator has becomes a nameless member: `state(99)`."""

    @classmethod
    def _missing_(cls, value: object) -> Any:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = str(value)
        member._value_ = value
        return member

    def __str__(self) -> str:
        return self._name_


class CFlag(IntFlag):
    """A C enum whose enumerators are single bits, to be combined with `|`."""
