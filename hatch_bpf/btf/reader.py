"""Raw BTF -> `Btf`: the whole blob indexed once, each type decoded only when asked for.

Input: the bytes of a .BTF section or of /sys/kernel/btf/vmlinux, in either byte order, with a header of 24 bytes or
more. Output: a `Btf`, or `BtfError` for anything that is not BTF.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import chain, repeat, starmap
from operator import getitem
from typing import Literal

from hatch_bpf.btf import types as t
from hatch_bpf.btf.header import MAGIC, MIN_HEADER, VERSION, words_of
from hatch_bpf.btf.name_search import NameSearch
from hatch_bpf.btf.types import EXTRA_WORDS, FIXED_WORDS, KIND_MASK, VLEN_MASK, WORDS_PER_ENTRY
from hatch_bpf.errors import BtfError
from hatch_bpf.support.budget import BTF_ENTRIES

LAYOUT_HEADER = 32
"""Bytes of a header that also says where the layout section is (Linux 7.1): the sizes of each kind, for old readers."""
NAMED_IN_C = frozenset({
    t.Kind.INT, t.Kind.FLOAT, t.Kind.STRUCT, t.Kind.UNION, t.Kind.ENUM, t.Kind.ENUM64, t.Kind.FWD, t.Kind.TYPEDEF,
})  # fmt: skip
"""Kinds of types that C has names for: a fifth of a kernel's, which are found sooner for that."""

_KINDS = {int(kind): kind for kind in t.Kind if kind is not t.Kind.VOID}
"""Those that are on disk."""
_LONG_NAMES = (
    "long", "long int", "int long", "unsigned long", "long unsigned", "unsigned long int", "unsigned int long",
    "long unsigned int", "long int unsigned", "int unsigned long", "int long unsigned",
)  # fmt: skip
"""The ways that compilers spell `long` and `unsigned long` in debug information."""


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a blob: where its sections lie, in bytes from the blob's start."""

    endian: Literal["little", "big"]
    type_start: int
    type_end: int
    str_start: int
    str_end: int


NEAR = 3
"""How much shorter or longer a name may be that is like another."""


class Btf:
    """The types of one BTF blob, by id and by name. Ids run from 0 (void)."""

    def __init__(self, data: bytes, *, source: str = "BTF") -> None:
        """Index `data`. `source` names it in errors. Raises `BtfError`."""
        self.source = source
        self.data = data
        self.header = header = _read_header(data, source)
        self.endian: Literal["little", "big"] = header.endian
        self.strings = data[header.str_start : header.str_end]
        """The string section: what string offsets point into."""
        if not self.strings:
            raise BtfError(f"{source}: the string section is empty; it must at least hold the empty string")
        if self.strings[-1] != 0 or self.strings[0] != 0:
            raise BtfError(f"{source}: the string section does not start and end with a NUL byte")
        self._starts, self._starts_in_c = _index_types(header, data, source)
        """Word index of each type of this blob, in id order; and of those that are `NAMED_IN_C`."""
        self._words = words_of(memoryview(data)[header.type_start : header.type_end], header.endian)
        """The type section, as 32-bit words in the machine's order."""
        self._decoded: dict[int, t.Type] = {}
        self._expected: set[str] = set()
        self._long_strings = 0

    def __len__(self) -> int:
        """Number of types, void among them; valid ids are below it."""
        return 1 + len(self._starts)

    def __iter__(self) -> Iterator[t.Type]:
        """Every type, void first. Unlike those asked for by id, they are not kept decoded."""
        yield t.Void()
        for type_id in range(1, len(self)):
            yield self._decode(type_id)

    def __getitem__(self, type_id: int) -> t.Type:
        """Decode one type. Raises `BtfError` for an id that isn't there."""
        if type_id == 0:
            return t.Void()
        found = self._decoded.get(type_id)
        if found is None:
            found = self._decoded[type_id] = self._decode(type_id)
        return found

    def kind(self, type_id: int) -> t.Kind:
        """The kind of a type, without decoding it."""
        if type_id == 0:
            return t.Kind.VOID
        return _KINDS[self._words[self._start(type_id) + 1] >> 24 & KIND_MASK]

    def name(self, type_id: int) -> str:
        """The name of a type, without decoding the rest; empty for the anonymous."""
        if type_id == 0:
            return ""
        return self.string(self._words[self._start(type_id)])

    def find(self, name: str, *kinds: t.Kind) -> list[int]:
        """Ids of the types with exactly this name, of the given kinds (of any kind, if none is given), rising."""
        return [type_id for type_id in self._find(name, kinds) if not kinds or self.kind(type_id) in kinds]

    def expect(self, names: Iterable[str]) -> None:
        """Say for which names `find()` may be called: all of them are looked for when one is."""
        self._expected.update(names)
        if all(self.kind(type_id) is not t.Kind.INT for type_id in self._early):
            self._expected.update(_LONG_NAMES)

    def flavors(self, name: str) -> list[str]:
        """Strings that begin with `name___`: names that CO-RE may take for flavors of `name`. Few kernels have any."""
        return self._names_in_c.flavors(name, self._expected)

    def near(self, name: str, *kinds: t.Kind, prefix: str = "") -> str:
        """The name most like `name` that a type of these kinds has behind `prefix`; empty if none is like it.

        It begins with the same letter and is about as long.
        """
        start, shortest = re.escape((prefix + name[:1]).encode()), max(len(name) - NEAR, 1) - 1
        pattern = rb"\0%s(\w{%d,%d})(?=\0)" % (start, shortest, len(name) + NEAR - 1)
        found = {name[:1] + match[1].decode() for match in re.finditer(pattern, self.strings)} - {name}
        for similar in get_close_matches(name, sorted(found), len(found) or 1, cutoff=0.8):
            if self.find(prefix + similar, *kinds):
                return similar
        return ""

    def string(self, offset: int) -> str:
        """The string at an offset of the string section. Bytes that are not UTF-8 come back as surrogates."""
        end = self.strings.find(b"\0", offset)
        if end < 0:
            raise BtfError(f"{self.source}: string offset {offset} is beyond the string section")
        if end - offset > LONG_STRING:
            self._long_strings += end - offset
            if self._long_strings > MAX_LONG_STRINGS:
                raise BtfError(f"{self.source}: its names have more than {MAX_LONG_STRINGS >> 20} MB")
        return self.strings[offset:end].decode("utf-8", "surrogateescape")

    def record(self, type_id: int) -> tuple[t.Kind, array[int]]:
        """A type as it is on disk: its kind, and a copy of its 32-bit words."""
        start = self._start(type_id)
        info = self._words[start + 1]
        kind = _KINDS[info >> 24 & KIND_MASK]
        extra = EXTRA_WORDS.get(kind) or WORDS_PER_ENTRY.get(kind, 0) * (info & VLEN_MASK)
        return kind, self._words[start : start + FIXED_WORDS + extra]

    def entry_names(self, type_id: int) -> array[int]:
        """String offsets of the names of a type's members, parameters or enumerators."""
        kind, record = self.record(type_id)
        return record[FIXED_WORDS :: WORDS_PER_ENTRY[kind]]

    def is_among(self, name: str, offsets: Iterable[int]) -> bool:
        """Whether one of these string offsets is of `name`. Decoding each string would take several times as long."""
        whole = name.encode("utf-8", "surrogateescape") + b"\0"
        return any(self.strings.startswith(whole, offset) for offset in offsets)

    def enum_values(self, type_id: int, prefix: str) -> list[int]:
        """Values of an enum's enumerators whose names begin with `prefix`, mostly without decoding names."""
        if self.kind(type_id) is t.Kind.ENUM:
            _, record = self.record(type_id)
            if not record[1] >> 31:  # no value is signed
                start, strings = prefix.encode(), self.strings
                entries = zip(record[FIXED_WORDS::2], record[FIXED_WORDS + 1 :: 2], strict=True)
                return [value for name, value in entries if strings.startswith(start, name)]
        found = self[type_id]
        values = found.values if isinstance(found, t.Enumeration) else ()
        return [one.value for one in values if one.name.startswith(prefix)]

    def tables(self) -> tuple[array[int], list[int]]:
        """A copy of the type section's words, and where in them each type begins, void left out.

        For work on a whole kernel, where decoding each type would take seconds.
        """
        return self._words[:], self._starts.tolist()

    def resolve(self, type_id: int) -> tuple[int, t.Type]:
        """Look through typedefs, qualifiers and type tags: libbpf's skip_mods_and_typedefs().

        Raises `BtfError` on a loop.
        """
        for _ in range(MAX_CHAIN):
            found = self[type_id]
            if not isinstance(found, t.MODIFIERS):
                return type_id, found
            type_id = found.type_id
        raise BtfError(f"{self.source}: type {type_id} is a loop of typedefs or qualifiers")

    def members(self, type_id: int) -> tuple[t.Member, ...]:
        """The members of a struct or union, or of one behind typedefs; of anything else none."""
        _, found = self.resolve(type_id)
        return found.members if isinstance(found, t.Composite) else ()

    def prototype(self, type_id: int) -> t.FuncProto | None:
        """What a function, or what a pointer leads to, takes and returns; None for anything else."""
        found = self[type_id]
        proto = self[found.type_id] if isinstance(found, (t.Func, t.Ptr)) else None
        return proto if isinstance(proto, t.FuncProto) else None

    def variables(self, section: str) -> Iterator[t.Var]:
        """The variables of a section of data."""
        for type_id in self.find(section, t.Kind.DATASEC):
            found = self[type_id]
            inside = (self[info.type_id] for info in found.variables) if isinstance(found, t.DataSec) else ()
            yield from (var for var in inside if isinstance(var, t.Var))

    def size_of(self, type_id: int) -> int:
        """Bytes of a type, as libbpf's btf__resolve_size() says. Raises `BtfError` for what has no size."""
        count = 1
        for _ in range(MAX_CHAIN):
            type_id, found = self.resolve(type_id)
            match found:
                case t.Array():
                    count *= found.length
                    type_id = found.type_id
                case t.Ptr():
                    return count * self.pointer_size
                case t.Var():
                    type_id = found.type_id
                case t.Int() | t.Composite() | t.Enumeration() | t.Float() | t.DataSec():
                    if count * found.size > 0xFFFFFFFF:
                        raise BtfError(f"{self.source}: type {type_id} in arrays takes more than 4 GiB")
                    return count * found.size
                case _:
                    break
        raise BtfError(f"{self.source}: type {type_id} ({found!r}) has no size")

    @cached_property
    def pointer_size(self) -> int:
        """4 or 8, guessed from the size of `long` as libbpf's determine_ptr_size() does; 8 when it isn't there."""
        return self._words[self._start(self.long_id) + 2] if self.long_id else 8

    @cached_property
    def long_id(self) -> int:
        """The first type that is a `long` of 4 or 8 bytes; 0 when there is none."""
        found = next(filter(self._is_long, self._early), 0)
        if not found and len(self) > self._early.stop:
            self.expect(_LONG_NAMES)
            named = chain.from_iterable(self._find(name, (t.Kind.INT,)) for name in _LONG_NAMES)
            found = min(filter(self._is_long, named), default=0)
        return found

    @property
    def _early(self) -> range:
        """The first types, among which `long` is on the kernels whose types are not sorted by name (before 7.0)."""
        return range(1, min(len(self), 65))

    def _is_long(self, type_id: int) -> bool:
        start = self._start(type_id)
        _, info, size = self._words[start : start + FIXED_WORDS]
        return info >> 24 & KIND_MASK == t.Kind.INT and size in (4, 8) and self.name(type_id) in _LONG_NAMES

    def _find(self, name: str, kinds: Collection[t.Kind]) -> list[int]:
        """Ids of the types of a name, rising: of these kinds, and maybe of others."""
        if only_in_c(kinds):
            # which of all types these are is found out for the few that have the name
            starts = (self._starts_in_c[number] for number in self._names_in_c.find(name, self._expected))
            return [1 + bisect_left(self._starts, start) for start in starts]
        return [1 + number for number in self._names.find(name, self._expected)]

    @cached_property
    def _names(self) -> NameSearch:
        return self._names_at(self._starts)

    @cached_property
    def _names_in_c(self) -> NameSearch:
        return self._names_at(self._starts_in_c)

    def _names_at(self, starts: array[int]) -> NameSearch:
        offsets = array("I", map(getitem, repeat(self._words), starts))
        return NameSearch(offsets, self.strings, source=self.source)

    def _start(self, type_id: int) -> int:
        if not 0 < type_id < len(self):
            raise BtfError(f"{self.source}: there is no type {type_id}; the last is {len(self) - 1}")
        return self._starts[type_id - 1]

    def _decode(self, type_id: int) -> t.Type:
        words, start = self._words, self._start(type_id)
        info, size = words[start + 1], words[start + 2]
        kind, vlen, flag = _KINDS[info >> 24 & KIND_MASK], info & VLEN_MASK, bool(info >> 31)
        name, at = self.string(words[start]), start + FIXED_WORDS
        match kind:  # the most frequent first
            case t.Kind.PTR:
                return t.Ptr(size, name)
            case t.Kind.FUNC_PROTO:
                params = (t.Param(self.string(text), param) for text, param in self._entries(at, vlen, kind))
                return t.FuncProto(size, tuple(params), name)
            case t.Kind.STRUCT | t.Kind.UNION:
                cls = t.Struct if kind is t.Kind.STRUCT else t.Union
                # with kind_flag the upper 8 bits are the bitfield's width (BTF_MEMBER_BITFIELD_SIZE)
                mask, width_at = (0xFFFFFF, 24) if flag else (0xFFFFFFFF, 32)
                members = (
                    t.Member(self.string(text), member, offset & mask, offset >> width_at)
                    for text, member, offset in self._entries(at, vlen, kind)
                )
                return cls(name, size, tuple(members), flag)
            case t.Kind.FUNC:
                return t.Func(name, size, vlen)
            case t.Kind.CONST:
                return t.Const(size, name)
            case t.Kind.ARRAY:
                return t.Array(words[at], words[at + 1], words[at + 2], name)
            case t.Kind.TYPEDEF:
                return t.Typedef(name, size)
            case t.Kind.INT:
                encoding = words[at]
                return t.Int(name, size, t.IntEncoding(encoding >> 24 & 0xF), encoding >> 16 & 0xFF, encoding & 0xFF)
            case t.Kind.ENUM:
                values = (
                    t.Enumerator(self.string(text), t.signed(value, 32) if flag else value)
                    for text, value in self._entries(at, vlen, kind)
                )
                return t.Enum(name, size, tuple(values), flag)
            case t.Kind.ENUM64:
                values = (
                    t.Enumerator(self.string(text), t.signed(low | high << 32, 64) if flag else low | high << 32)
                    for text, low, high in self._entries(at, vlen, kind)
                )
                return t.Enum64(name, size, tuple(values), flag)
            case t.Kind.FWD:
                return t.Fwd(name, flag)
            case t.Kind.VOLATILE:
                return t.Volatile(size, name)
            case t.Kind.RESTRICT:
                return t.Restrict(size, name)
            case t.Kind.FLOAT:
                return t.Float(name, size)
            case t.Kind.VAR:
                return t.Var(name, size, words[at])
            case t.Kind.DATASEC:
                return t.DataSec(name, size, tuple(starmap(t.SecInfo, self._entries(at, vlen, kind))))
            case t.Kind.DECL_TAG:
                return t.DeclTag(name, size, t.signed(words[at], 32), flag)
            case t.Kind.TYPE_TAG:
                return t.TypeTag(name, size, flag)
            case _:
                raise BtfError(f"{self.source}: type {type_id} has kind {kind.name}, which cannot be on disk")

    def _entries(self, at: int, vlen: int, kind: t.Kind) -> Iterator[tuple[int, ...]]:
        """The words of each member, enumerator, parameter or variable."""
        width = WORDS_PER_ENTRY[kind]
        return zip(*[self._words[at + column : at + width * vlen : width] for column in range(width)], strict=True)


LONG_STRING = 128
"""Characters that no name in a kernel has."""
MAX_LONG_STRINGS = 64 << 20
"""Most characters of longer strings that are read: types may all have tails of a very long one for names."""
MAX_CHAIN = 64
"""Longest chain of typedefs, qualifiers or arrays followed before it is a loop (the kernel: MAX_RESOLVE_DEPTH, 32)."""


def only_in_c(kinds: Collection[t.Kind]) -> bool:
    """Whether types of these kinds are found among those that are `NAMED_IN_C`; no kinds means all."""
    return bool(kinds) and NAMED_IN_C.issuperset(kinds)


def _read_header(data: bytes, source: str) -> Header:
    if len(data) < MIN_HEADER:
        raise BtfError(f"{source}: {len(data)} bytes cannot be BTF; the header alone has {MIN_HEADER}")
    endian: Literal["little", "big"] = "little" if data[0] == MAGIC & 0xFF else "big"
    order = "<" if endian == "little" else ">"
    magic, version, _, size = struct.unpack_from(order + "HBBI", data)
    if magic != MAGIC:
        raise BtfError(f"{source}: not BTF: it starts with {data[:4].hex(' ')} instead of 9f eb 01 00")
    if version != VERSION:
        raise BtfError(f"{source}: BTF version {version} is not known; {VERSION} is the only one so far")
    if not MIN_HEADER <= size <= len(data):
        raise BtfError(f"{source}: a header of {size} bytes does not fit; it is {MIN_HEADER} bytes or more")
    words = struct.unpack_from(f"{order}{6 if size >= LAYOUT_HEADER else 4}I", data, 8)
    bounds = []
    for what, offset, length in zip(("type", "string", "layout"), words[::2], words[1::2], strict=False):
        start = size + offset
        if start + length > len(data):
            raise BtfError(f"{source}: cut off: the {what} section ends at byte {start + length} of {len(data)}")
        bounds += [start, start + length]
    if words[0] % 4 or words[1] % 4:
        raise BtfError(f"{source}: the type section is not a whole number of 32-bit words")
    return Header(endian, *bounds[:4])


def _index_types(header: Header, data: bytes, source: str) -> tuple[array[int], array[int]]:
    """Where each type begins, in words, and where each of those that are `NAMED_IN_C`."""
    # a type's second word says how long it is: moved by one, each stands where its type begins
    infos = words_of(memoryview(data)[header.type_start + 4 : header.type_end], header.endian)
    starts, starts_in_c = array("I"), array("I")
    add, add_in_c = starts.append, starts_in_c.append
    lengths, at = _lengths, 0
    while True:
        try:
            while True:
                length = lengths[infos[at]]
                add(at)
                if length > 0:
                    at += length
                else:
                    add_in_c(at)
                    at -= length
        except KeyError:
            info = infos[at]
            if info >> 24 & KIND_MASK not in _KINDS:
                kind = info >> 24 & KIND_MASK
                raise BtfError(f"{source}: type {len(starts) + 1} has kind {kind}, which is not known") from None
            if len(lengths) > MAX_LENGTHS:
                lengths.clear()
            lengths[info] = _length(info, source)
        except IndexError:
            break
    if 4 * at != header.type_end - header.type_start:
        raise BtfError(f"{source}: type {len(starts)} is cut off at the end of the type section")
    return starts, starts_in_c


_lengths: dict[int, int] = {}
"""What `_length()` said, for all that is read: kernels have a few hundred kinds and lengths of types in common."""
MAX_LENGTHS = 1 << 12


def _length(info: int, source: str) -> int:
    """Words of a type, by the second of them. Negative for the kinds that are `NAMED_IN_C`."""
    kind, length = _KINDS[info >> 24 & KIND_MASK], FIXED_WORDS
    if kind in WORDS_PER_ENTRY:
        length += WORDS_PER_ENTRY[kind] * BTF_ENTRIES.check(info & VLEN_MASK, source=source, error=BtfError)
    else:
        length += EXTRA_WORDS.get(kind, 0)
    return -length if kind in NAMED_IN_C else length
