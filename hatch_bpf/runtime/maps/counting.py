"""Arithmetic on values of maps. Input: values of one type, integers or structs of them. Output: one such value."""

from __future__ import annotations

from ..types import Nested, Scalar, scalars_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..types import Codec

    Function = Callable[[Scalar[Any], Sequence[Any]], Any]


def merged(codec: Codec[Any], function: Function, values: Sequence[Any]) -> Any:
    """A function of all the values; of structs, each integer member is one, and the first value has the others."""
    if isinstance(codec, Scalar):
        return function(codec, values)
    first = values[0]
    if not isinstance(codec, Nested):
        return first
    made = codec.cls.from_buffer_copy(first)
    for name, scalar in scalars_of(codec.cls).items():
        setattr(made, name, function(scalar, [getattr(value, name) for value in values]))
    return made


def total(_scalar: Scalar[Any], values: Sequence[Any]) -> Any:
    return sum(values)


def greatest(_scalar: Scalar[Any], values: Sequence[Any]) -> Any:
    return max(values)


def growth(scalar: Scalar[Any], values: Sequence[Any]) -> Any:
    """What the first has grown by since it was the second. An unsigned counter may have passed its greatest value."""
    new, old = values
    is_unsigned = scalar.ctype(-1).value > 0
    return new - old if new >= old or not is_unsigned else new - old + (1 << 8 * scalar.size)


def growth_or_new(_scalar: Scalar[Any], values: Sequence[Any]) -> Any:
    """What the first has grown by since it was the second. If it is less, its key was removed and made again."""
    new, old = values
    return new - old if new >= old else new
