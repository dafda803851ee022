"""C types in Python: the base classes and field descriptors of generated struct classes, and codecs.

A `Codec` turns a C value of one type into a Python value and back. Maps have codecs for keys and values, structs for
members that ctypes has no type for. Structs are packed and their padding is explicit, so that every offset is ours and
none is ctypes' choice. A value that does not fit is an `InvalidValueError` or `InvalidTypeError` that names its field.
"""

from __future__ import annotations

import ctypes
import sys
from itertools import chain, repeat

from .errors import InvalidTypeError, InvalidValueError, UnknownNameError
from .generic import Generic, Sequence

c_bool, c_float, c_double = ctypes.c_bool, ctypes.c_float, ctypes.c_double
c_int8, c_int16, c_int32, c_int64 = ctypes.c_int8, ctypes.c_int16, ctypes.c_int32, ctypes.c_int64
c_uint8, c_uint16, c_uint32, c_uint64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, ClassVar, Optional, TypeVar, overload
    from typing import Union as _Union

    T = TypeVar("T")
    SelfT = TypeVar("SelfT")
    StructT = TypeVar("StructT", bound="_Composite")

    class _CType(type):
        """What ctypes' own metaclass offers, without its claim that every attribute exists."""

        def __mul__(cls, length: int) -> Any: ...
        def from_buffer(cls: type[T], source: Any, offset: int = 0) -> T: ...
        def from_buffer_copy(cls: type[T], source: Any, offset: int = 0) -> T: ...

    class _CtypesStructure(metaclass=_CType):
        _fields_: ClassVar[Sequence[tuple[str, Any]]]

    _CtypesUnion = _CtypesStructure
    _CompositeBase = _CtypesStructure
else:
    _CompositeBase = object
    _CtypesStructure = ctypes.Structure
    _CtypesUnion = ctypes.Union


def size_of(cls: Any) -> int:
    """Bytes of a struct or union class, C's sizeof."""
    return ctypes.sizeof(cls)


class Chars(str):
    """A char array: the text up to the first NUL, with all of its bytes in `raw`.

    It equals the same text as str or as bytes. Bytes that are not UTF-8 are written as `\\xff`.
    """

    __slots__ = ("raw",)
    raw: bytes
    """The whole array, as `bytes()` gives it too."""

    def __new__(cls, raw: bytes) -> Chars:
        whole = bytes(raw)
        self = str.__new__(cls, whole.partition(b"\0")[0], "utf-8", "backslashreplace")
        self.raw = whole
        return self

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The text up to the first NUL, as `bytes.decode()` gives it."""
        return self.raw.partition(b"\0")[0].decode(encoding, errors)

    def __bytes__(self) -> bytes:
        return self.raw

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (bytes, bytearray)):
            return other in (self.raw.partition(b"\0")[0], self.raw)
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __getnewargs__(self) -> tuple[bytes]:  # type: ignore[override]
        return (self.raw,)


RawBytes = bytes
"""`bytes`, under a name that no C member can hide."""


# --- codecs -------------------------------------------------------------------------------------------------------


class Codec(Generic["T"]):
    """How a C type is stored (`ctype`), and how a stored value becomes a Python value and back."""

    ctype: Any
    size: int

    def get(self, raw: Any) -> T:
        """The Python value for what ctypes returns for a field or element of type `ctype`."""
        raise NotImplementedError

    def put(self, value: T) -> Any:
        """What to assign to a field or element of type `ctype`. Raises `InvalidTypeError`, `InvalidValueError`."""
        raise NotImplementedError

    def new(self) -> Any:
        """Zeroed storage for one value."""
        return self.ctype()

    def decode(self, storage: Any) -> T:
        """The Python value in storage that `new()` made."""
        return self.get(storage)

    def encode(self, value: T) -> Any:
        """Storage holding a value."""
        return self.put(value)

    def read(self, buffer: Any, offset: int = 0) -> T:
        """The Python value at an offset of a bytes-like object, copied."""
        return self.decode(self.ctype.from_buffer_copy(buffer, offset))

    def read_many(self, buffer: bytes) -> Iterable[T]:
        """Consecutive values, each made when it is asked for."""
        return map(self.read, repeat(buffer), range(0, len(buffer), self.size))

    def write_many(self, values: Sequence[T]) -> Any:
        """Storage that holds values one after the other."""
        return b"".join([bytes(self.encode(value)) for value in values])


class Scalar(Codec["T"]):
    """An integer, float or bool that ctypes knows."""

    def __init__(self, ctype: Any, check: Callable[[Any], Callable[[Any], T]]) -> None:
        """`check(ctype)` is a function that takes a value and returns what ctypes is to store."""
        self.ctype = ctype
        self.size = ctypes.sizeof(ctype)
        self._check = check(ctype)

    def get(self, raw: Any) -> T:
        return raw  # type: ignore[no-any-return]

    def put(self, value: T) -> Any:
        return self._check(value)

    def decode(self, storage: Any) -> T:
        return storage.value  # type: ignore[no-any-return]

    def encode(self, value: T) -> Any:
        return self.ctype(self.put(value))

    def read_many(self, buffer: bytes) -> Iterable[T]:
        values: list[T] = (self.ctype * (len(buffer) // self.size)).from_buffer_copy(buffer)[:]
        return values

    def write_many(self, values: Sequence[T]) -> Any:
        return bytes((self.ctype * len(values))(*map(self.put, values)))


def shown(value: object) -> str:
    """A value for a message, which Python refuses to write out if it is an int of more than 4,300 digits."""
    try:
        return repr(value)
    except ValueError:
        return f"{type(value).__name__} of too many digits to show"


def as_int(value: Any) -> int:
    """An int, or an object that is one, as NumPy's integers are. Nothing is rounded or parsed."""
    try:
        return value.__index__()  # type: ignore[no-any-return]
    except AttributeError:
        raise InvalidTypeError(f"must be an int, not {type(value).__name__}") from None


def _limits(bits: int, *, signed: bool) -> tuple[int, int]:
    """The least and the greatest integer of so many bits."""
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def _fitting_int(ctype: Any) -> Callable[[Any], int]:
    low, high = _limits(8 * ctypes.sizeof(ctype), signed=ctype(-1).value < 0)

    def check(value: Any) -> int:
        number = value if type(value) is int else as_int(value)
        if not low <= number <= high:
            raise InvalidValueError(f"{shown(value)} does not fit {ctype.__name__}: {low} to {high}")
        return number

    return check


def _fitting_bool(_ctype: Any) -> Callable[[Any], bool]:
    """A bool, or 0 or 1. Everything has a truth value in Python, even "no"."""

    def check(value: Any) -> bool:
        if isinstance(value, (str, bytes, float)) or value not in (0, 1):
            raise InvalidTypeError(f"must be True or False, not {shown(value)}")
        return bool(value)

    return check


def _fitting_float(ctype: Any) -> Callable[[Any], float]:
    infinite = (float("inf"), float("-inf"))

    def check(value: Any) -> float:
        if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
            raise InvalidTypeError(f"must be a float, not {type(value).__name__}")
        try:
            number = float(value)
        except OverflowError:
            number = infinite[0]
        if ctype(number).value in infinite and value not in infinite:
            raise InvalidValueError(f"{shown(value)} does not fit {ctype.__name__}")
        return number

    return check


def as_bytes(value: Any) -> bytes:
    """The bytes of a bytes-like object. bytes(6) would be 6 NULs, so numbers are refused."""
    if isinstance(value, Chars):
        return value.raw
    try:
        if isinstance(value, (str, int)):
            raise TypeError
        return bytes(value)
    except (TypeError, ValueError):
        raise InvalidTypeError(f"must be bytes, not {type(value).__name__}") from None


U8: Scalar[int] = Scalar(c_uint8, _fitting_int)
U16: Scalar[int] = Scalar(c_uint16, _fitting_int)
U32: Scalar[int] = Scalar(c_uint32, _fitting_int)
U64: Scalar[int] = Scalar(c_uint64, _fitting_int)
S8: Scalar[int] = Scalar(c_int8, _fitting_int)
S16: Scalar[int] = Scalar(c_int16, _fitting_int)
S32: Scalar[int] = Scalar(c_int32, _fitting_int)
S64: Scalar[int] = Scalar(c_int64, _fitting_int)
BOOL: Scalar[bool] = Scalar(c_bool, _fitting_bool)
F32: Scalar[float] = Scalar(c_float, _fitting_float)
F64: Scalar[float] = Scalar(c_double, _fitting_float)
_SCALARS: dict[Any, Scalar[Any]] = {
    codec.ctype: codec for codec in (U8, U16, U32, U64, S8, S16, S32, S64, BOOL, F32, F64)
}


class _StoredAsBytes(Codec["T"]):
    """What ctypes has no type for: it is stored as an array of bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.ctype = c_uint8 * size


class Wide(_StoredAsBytes[int]):
    """An integer wider than 64 bits."""

    def __init__(self, size: int, *, signed: bool) -> None:
        super().__init__(size)
        self._signed = signed

    def get(self, raw: Any) -> int:
        return int.from_bytes(bytes(raw), sys.byteorder, signed=self._signed)

    def put(self, value: int) -> Any:
        try:
            data = as_int(value).to_bytes(self.size, sys.byteorder, signed=self._signed)
        except OverflowError:
            kind = "a signed" if self._signed else "an unsigned"
            raise InvalidValueError(f"{shown(value)} does not fit {kind} integer of {8 * self.size} bits") from None
        return self.ctype.from_buffer_copy(data)


class Bytes(_StoredAsBytes[bytes]):
    """Bytes without a type of their own: `unsigned char x[6]`, or a key or value declared by its size alone."""

    def get(self, raw: Any) -> bytes:
        return bytes(raw)

    def put(self, value: bytes) -> Any:
        data = as_bytes(value)
        if len(data) != self.size:
            raise InvalidValueError(f"must be exactly {self.size} bytes, not {len(data)}")
        return self.ctype.from_buffer_copy(data)


class Text(_StoredAsBytes[Chars]):
    """`char x[size]`."""

    def get(self, raw: Any) -> Chars:
        return Chars(raw)

    def put(self, value: _Union[bytes, str]) -> Any:
        if isinstance(value, str) and not (isinstance(value, Chars) and len(value.raw) <= self.size):
            try:
                data = value.encode()
            except UnicodeEncodeError as error:
                raise InvalidValueError(f"{value!r} can't be written as UTF-8: {error.reason}") from None
        else:
            data = as_bytes(value)
        if len(data) > self.size:
            raise InvalidValueError(f"{len(data)} bytes do not fit char[{self.size}]")
        return self.ctype.from_buffer_copy(data.ljust(self.size, b"\0"))


class EnumOf(Codec["T"]):
    """An enum, stored as an integer. A value without a name is a nameless member of the same class."""

    def __init__(self, cls: type[T], base: Scalar[int]) -> None:
        self.cls: Any = cls
        self._base = base
        self.ctype = base.ctype
        self.size = base.size

    def get(self, raw: Any) -> T:
        return self.cls(raw)  # type: ignore[no-any-return]

    def put(self, value: T) -> Any:
        return self._base.put(value)  # type: ignore[arg-type]

    def decode(self, storage: Any) -> T:
        return self.cls(storage.value)  # type: ignore[no-any-return]

    def read_many(self, buffer: bytes) -> Iterable[T]:
        return map(self.cls, self._base.read_many(buffer))

    def encode(self, value: T) -> Any:
        return self.ctype(self.put(value))


BLOCK = 1024
"""How many bytes of structs are read together."""


class Nested(Codec["StructT"]):
    """A struct or union, by its class. Values are views, not copies."""

    def __init__(self, cls: type[StructT]) -> None:
        self.cls = cls
        self.ctype = cls
        self.size = size_of(cls)

    def get(self, raw: Any) -> StructT:
        return raw  # type: ignore[no-any-return]

    def put(self, value: StructT) -> Any:
        if not isinstance(value, self.cls):
            raise InvalidTypeError(f"must be a {self.cls.__name__}, not {type(value).__name__}")
        return value

    def read(self, buffer: Any, offset: int = 0) -> StructT:
        return self.cls.from_buffer_copy(buffer, offset)

    def read_many(self, buffer: bytes) -> Iterable[StructT]:
        # One loop in C makes all structs of a block. They share its memory, and blocks are small because keeping one
        # struct keeps the whole block.
        step = max(1, BLOCK // self.size) * self.size
        blocks = (buffer[at : at + step] for at in range(0, len(buffer), step))
        return chain.from_iterable(
            (self.cls * (len(block) // self.size)).from_buffer_copy(block)[:] for block in blocks
        )


class ArrayOf(Codec["ArrayView[T]"]):
    """An array of anything. Values are views, not copies."""

    def __init__(self, element: Codec[T], length: int) -> None:
        self.element = element
        self.length = length
        self.ctype = element.ctype * length
        self.size = element.size * length

    def get(self, raw: Any) -> ArrayView[T]:
        return ArrayView(raw, self.element)

    def put(self, value: Sequence[T]) -> Any:
        try:
            values = list(value)
        except TypeError:
            raise InvalidTypeError(f"must be a sequence, not {type(value).__name__}") from None
        if len(values) != self.length:
            raise InvalidValueError(f"must have exactly {self.length} elements, not {len(values)}")
        return self.ctype(*[named(f"[{i}]", self.element.put, item) for i, item in enumerate(values)])


class ArrayView(Sequence["T"]):
    """The elements of a C array, read and written in place."""

    __slots__ = ("_element", "_name", "_raw")

    def __init__(self, raw: Any, element: Codec[T]) -> None:
        self._raw = raw
        self._element = element
        self._name = ""
        """Name of the member, for errors."""

    def __len__(self) -> int:
        return len(self._raw)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> T: ...

        @overload
        def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: _Union[int, slice]) -> _Union[T, list[T]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        item: Any = self._element.get(self._raw[index])
        if isinstance(item, ArrayView):
            item._name = f"{self._name}[{index}]"
        return item  # type: ignore[no-any-return]

    def __setitem__(self, index: int, value: T) -> None:
        self._raw[index] = named(f"{self._name}[{index}]", self._element.put, value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (ArrayView, list, tuple)):
            return NotImplemented
        return list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(list(self))

    def to_list(self) -> list[Any]:
        """Plain Python values, all the way down."""
        return [_plain(item) for item in self]


# --- structs ------------------------------------------------------------------------------------------------------


class _Composite(_CompositeBase):
    """The common base of struct and union classes."""

    __slots__ = ()
    _pack_ = 1
    _layout_ = "ms"  # Python 3.14 wants a layout beside _pack_; earlier versions ignore it
    _names_: ClassVar[tuple[str, ...]] = ()
    """The members in C's order, with those of anonymous members in their place."""

    def __init__(*args: Any, **values: Any) -> None:
        self, *unnamed = args  # Python 3.7 has no `self, /`, and a member may be called self
        if unnamed:
            raise InvalidTypeError(
                f"{type(self).__name__} takes its members by name, {type(self).__name__}(member=...)"
            )
        super(_Composite, self).__init__()
        for name, value in values.items():
            if name not in self._names_:
                raise InvalidTypeError(_no_member(self, name))
            setattr(self, name, value)

    if not TYPE_CHECKING:  # type checkers know what the generated class declares

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)  # Python asks for these itself, to copy an object and the like
            raise UnknownNameError(_no_member(self, name))

        def __setattr__(self, name: str, value: Any) -> None:
            # ctypes itself would cut an integer to the bits that fit, and take any object for a bool
            codec = scalars_of(type(self)).get(name)
            if codec is not None:
                value = named(name, codec.put, value)
            elif name not in self._names_:
                raise UnknownNameError(_no_member(self, name))
            super().__setattr__(name, value)

    def to_dict(self) -> dict[str, Any]:
        """The members by name, as plain Python values all the way down: char arrays as text, structs as dicts."""
        return {name: _plain(getattr(self, name)) for name in self._names_}

    def __repr__(self) -> str:
        members = (f"{name}={getattr(self, name)!r}" for name in self._names_)
        return f"{type(self).__name__}({', '.join(members)})"

    def __bytes__(self) -> bytes:
        return bytes(memoryview(self))  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as a struct of its own, with the contents of its flexible array."""
        cls: Any = type(self)
        return read_record, (cls, bytes(self) + rest_of(self, size_of(cls)))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_exact(getattr(self, name)) == _exact(getattr(other, name)) for name in self._names_)

    def __hash__(self) -> int:
        """By value, so that a struct can be a dict's key; don't change it while it is one."""
        return hash((type(self).__name__, *(getattr(self, name) for name in self._names_)))


def _no_member(of: _Composite, name: str) -> str:
    return f"{type(of).__name__} has no member {name!r}; it has {', '.join(of._names_)}"


def _exact(value: Any) -> Any:
    """What structs compare: all bytes of a char array, since maps distinguish keys by them."""
    return value.raw if isinstance(value, Chars) else value


def named(name: str, put: Callable[[Any], Any], value: Any) -> Any:
    """`put(value)`, with the name of the field or element in the error."""
    try:
        return put(value)
    except (InvalidTypeError, InvalidValueError) as error:
        raise type(error)(f"{name}{'' if str(error).startswith('[') else ': '}{error}") from None


_scalars: dict[type, dict[str, Scalar[Any]]] = {}


def scalars_of(cls: Any) -> dict[str, Scalar[Any]]:
    """The codecs of a class's fields that are scalars, by name: worked out once, at the first assignment."""
    found = _scalars.get(cls)
    if found is None:
        found = _scalars[cls] = {field[0]: _SCALARS[field[1]] for field in cls._fields_ if field[1] in _SCALARS}
    return found


class CStruct(_Composite, _CtypesStructure):
    """A C struct. Generated subclasses have a field for every byte, so that the layout is not ctypes' choice."""

    __slots__ = ()


class CUnion(_Composite, _CtypesUnion):
    """A C union. Equal when its bytes are."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return bytes(self) == bytes(other)

    def __hash__(self) -> int:
        return hash(bytes(self))


def _plain(value: Any) -> Any:
    if isinstance(value, _Composite):
        return value.to_dict()
    if isinstance(value, ArrayView):
        return value.to_list()
    if isinstance(value, Chars):
        return str(value)
    return value


# --- field descriptors --------------------------------------------------------------------------------------------


class Computed(Generic["T"]):
    """A member whose value is made of others."""

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def __get__(self: SelfT, instance: None, owner: type) -> SelfT: ...

        @overload
        def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self._value(instance)

    def _value(self, instance: Any) -> T:
        raise NotImplementedError


class Field(Computed["T"]):
    """A member that is stored in a hidden ctypes field and read through a codec."""

    __slots__ = ("_codec", "_is_array", "_name", "_storage")

    def __init__(self, storage: str, codec: Codec[T]) -> None:
        self._storage = storage
        self._codec = codec
        self._is_array = isinstance(codec, ArrayOf)
        self._name = storage

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    if not TYPE_CHECKING:  # with one call less than `Computed` takes, since most members are read here

        def __get__(self, instance: Any, owner: type) -> Any:
            if instance is None:
                return self
            value = self._codec.get(getattr(instance, self._storage))
            if self._is_array:
                value._name = self._name
            return value

    def __set__(self, instance: object, value: Any) -> None:
        object.__setattr__(instance, self._storage, named(self._name, self._codec.put, value))


class Bits(Computed[int]):
    """A bitfield. `bit` counts from the start of a hidden byte array, in the order in which the ABI fills bits."""

    __slots__ = ("_bit", "_name", "_signed", "_storage", "_width")

    def __init__(self, storage: str, *, bit: int, width: int, signed: bool = False) -> None:
        self._storage = storage
        self._bit = bit
        self._width = width
        self._signed = signed
        self._name = storage

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def _value(self, instance: Any) -> int:
        raw = getattr(instance, self._storage)
        value = int.from_bytes(bytes(raw), sys.byteorder) >> self._shift(len(raw)) & ((1 << self._width) - 1)
        if self._signed and value >> (self._width - 1):
            value -= 1 << self._width
        return value

    def __set__(self, instance: object, value: int) -> None:
        low, high = _limits(self._width, signed=self._signed)
        value = named(self._name, as_int, value)
        if not low <= value <= high:
            raise InvalidValueError(
                f"{self._name}: {shown(value)} does not fit a bitfield of {self._width} bits: {low} to {high}"
            )
        raw = getattr(instance, self._storage)
        mask, shift = (1 << self._width) - 1, self._shift(len(raw))
        whole = int.from_bytes(bytes(raw), sys.byteorder) & ~(mask << shift) | (value & mask) << shift
        raw[:] = list(whole.to_bytes(len(raw), sys.byteorder))

    def _shift(self, size: int) -> int:
        if sys.byteorder == "little":
            return self._bit
        return 8 * size - self._bit - self._width


class EnumBits(Computed["T"]):
    """A bitfield of an enum type."""

    __slots__ = ("_bits", "_cls")

    def __init__(self, bits: Bits, codec: EnumOf[T]) -> None:
        self._bits = bits
        self._cls: Any = codec.cls

    def __set_name__(self, owner: type, name: str) -> None:
        self._bits.__set_name__(owner, name)

    def _value(self, instance: Any) -> T:
        return self._cls(self._bits._value(instance))  # type: ignore[no-any-return]

    def __set__(self, instance: object, value: int) -> None:
        self._bits.__set__(instance, value)


class Inner(Computed["T"]):
    """A member of an anonymous member: `a.x` for `struct { union { int x; ... }; } a`. The codec tells its type."""

    __slots__ = ("_name", "_storage")

    def __init__(self, storage: str, name: str, codec: Codec[T]) -> None:
        del codec
        self._storage = storage
        self._name = name

    def _value(self, instance: Any) -> Any:
        return getattr(getattr(instance, self._storage), self._name)

    def __set__(self, instance: object, value: Any) -> None:
        setattr(getattr(instance, self._storage), self._name, value)


class Flexible(Computed["list[T]"]):
    """A flexible array member, as a list: what a record holds beyond the struct. Empty for a struct by itself."""

    __slots__ = ("_element", "_offset")

    def __init__(self, offset: int, element: Codec[T]) -> None:
        self._offset = offset
        self._element = element

    def _value(self, instance: Any) -> list[T]:
        rest, element = rest_of(instance, self._offset), self._element
        return [element.read(rest, i * element.size) for i in range(len(rest) // max(element.size, 1))]


class FlexibleBytes(Computed["T"]):
    """A flexible array of char (`Chars`) or unsigned char (`bytes`)."""

    __slots__ = ("_make", "_offset")

    def __init__(self, offset: int, make: type[T]) -> None:
        self._offset = offset
        self._make: Any = make

    def _value(self, instance: Any) -> T:
        return self._make(rest_of(instance, self._offset))  # type: ignore[no-any-return]


def rest_of(instance: Any, offset: int) -> bytes:
    """The record that a struct was read from, from an offset on; empty if the record is not longer than the struct."""
    kept = instance._objects
    for item in kept.values() if isinstance(kept, dict) else ():
        if isinstance(item, memoryview):
            return bytes(item[offset:])
    return b""


def has_flexible(cls: Any) -> bool:
    """Whether a struct class ends with a flexible array, whose length its records tell."""
    return any(isinstance(member, (Flexible, FlexibleBytes)) for member in vars(cls).values())


def numpy_fields(cls: Any) -> dict[str, Any]:
    """A struct's members, as numpy.dtype() takes them, without bitfields and flexible arrays."""
    found = {name: _place(cls, name) for name in cls._names_}
    places = {name: place for name, place in found.items() if place is not None}
    return {
        "names": list(places),
        "formats": [numpy_format(codec) for _, codec in places.values()],
        "offsets": [offset for offset, _ in places.values()],
        "itemsize": size_of(cls),
    }


def _place(cls: Any, name: str) -> Optional[tuple[int, Codec[Any]]]:
    """Offset and codec of a member; None for bitfields and flexible arrays."""
    members = vars(cls)
    member = members[name]
    if isinstance(member, Inner):
        inner = _place(dict(cls._fields_)[member._storage], member._name)
        return None if inner is None else (members[member._storage].offset + inner[0], inner[1])
    if isinstance(member, Field):
        return members[member._storage].offset, member._codec
    scalar = scalars_of(cls).get(name)
    return None if scalar is None else (member.offset, scalar)


def numpy_format(codec: Any) -> Any:
    """The type of a codec, as numpy.dtype() takes it."""
    if isinstance(codec, Text):
        return f"S{codec.size}"
    if isinstance(codec, ArrayOf):
        return (numpy_format(codec.element), (codec.length,))
    if isinstance(codec, Nested):
        return numpy_fields(codec.cls)
    if isinstance(codec, (Bytes, Wide)):
        return ("u1", (codec.size,))
    return codec.ctype


def read_record(cls: type[StructT], record: _Union[bytes, bytearray]) -> StructT:
    """A struct from a record of any length. Missing bytes are zero; further ones belong to its flexible array."""
    size = size_of(cls)
    if len(record) > size:
        return cls.from_buffer(bytearray(record))
    return cls.from_buffer_copy(record if len(record) == size else record.ljust(size, b"\0"))
