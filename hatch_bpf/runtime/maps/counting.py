"""Arithmetic on values of maps. Input: values of one type, numbers or arrays and structs of them. Output: one of it."""

from __future__ import annotations

from ..types import BOOL, ArrayOf, Bits, CStruct, Field, Nested, Scalar, Wide, named, scalars_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..types import Codec

    Function = Callable[[int, Sequence[Any]], Any]
    """It takes how many values an unsigned integer of the type can have (0 for other numbers), and the numbers."""


def merged(codec: Codec[Any], function: Function, values: Sequence[Any]) -> Any:
    """Apply a function to all the values: to arrays element by element, to structs member by member.

    Bools, enums, texts, bytes and unions are taken from the first value.
    """
    if isinstance(codec, (Scalar, Wide)) and codec is not BOOL:
        return function(_span(codec), values)
    if isinstance(codec, ArrayOf):
        elements = [merged(codec.element, function, column) for column in zip(*values)]
        return codec.get(named("the result", codec.put, elements))
    if isinstance(codec, Nested) and issubclass(codec.cls, CStruct):
        made = codec.cls.from_buffer_copy(values[0])
        _merge_members(made, function, values)
        return made
    return values[0]


def _merge_members(made: Any, function: Function, values: Sequence[Any]) -> None:
    """Set the members of a struct."""
    cls = type(made)
    computed = {name: member for name, member in vars(cls).items() if isinstance(member, (Field, Bits))}
    storages = {member._storage for member in computed.values()}
    structs = {name: Nested(ctype) for name, ctype, *_ in cls._fields_ if issubclass(ctype, CStruct)}
    codecs: dict[str, Any] = {name: getattr(member, "_codec", member) for name, member in computed.items()}
    for name, codec in {**scalars_of(cls), **structs, **codecs}.items():
        if name not in storages:
            parts = [getattr(value, name) for value in values]
            if isinstance(codec, Nested):
                if issubclass(codec.cls, CStruct):
                    _merge_members(getattr(made, name), function, parts)
            elif isinstance(codec, Bits):
                setattr(made, name, function(0 if codec._signed else 1 << codec._width, parts))
            else:
                setattr(made, name, merged(codec, function, parts))


def _span(codec: Any) -> int:
    is_unsigned = not codec._signed if isinstance(codec, Wide) else codec.ctype(-1).value > 0
    return 1 << 8 * codec.size if is_unsigned else 0


def total(_span: int, values: Sequence[Any]) -> Any:
    return sum(values)


def greatest(_span: int, values: Sequence[Any]) -> Any:
    return max(values)


def growth(span: int, values: Sequence[Any]) -> Any:
    """What the first has grown by since it was the second. An unsigned counter may have passed its greatest value."""
    new, old = values
    return new - old if new >= old else new - old + span


def growth_or_new(_span: int, values: Sequence[Any]) -> Any:
    """What the first has grown by since it was the second. If it is less, its key was removed and made again."""
    new, old = values
    return new - old if new >= old else new
