"""What the C dump knows of each type: kind, name, members, and how much room it takes in C.

Input: a `Btf`. Output: `CTypes`, tables over its 32-bit words. A whole kernel has over 100,000 types, so nothing is
decoded into objects, and the tables are filled only as far as they are asked. Ids are not checked one by one:
`CTypes.checked_ids()` turns what a wrong one leads to into `BtfError`.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from functools import cached_property
from itertools import compress, repeat
from operator import itemgetter
from string import ascii_letters, digits

from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import KIND_MASK, VLEN_MASK, Kind
from hatch_bpf.errors import BtfError
from hatch_bpf.support.budget import BTF_NAME, Budget

# plain numbers: comparing members of an IntEnum takes five times as long
INT, PTR, ARRAY, FWD = int(Kind.INT), int(Kind.PTR), int(Kind.ARRAY), int(Kind.FWD)
TYPEDEF, FUNC_PROTO, FLOAT, TYPE_TAG = int(Kind.TYPEDEF), int(Kind.FUNC_PROTO), int(Kind.FLOAT), int(Kind.TYPE_TAG)
STRUCT, VAR, ENUM, ENUM64 = int(Kind.STRUCT), int(Kind.VAR), int(Kind.ENUM), int(Kind.ENUM64)
COMPOSITES = frozenset((STRUCT, int(Kind.UNION)))
ENUMS = frozenset((ENUM, ENUM64))
BASES = frozenset((INT, FLOAT))
CONST, FUNC, DECL_TAG = int(Kind.CONST), int(Kind.FUNC), int(Kind.DECL_TAG)
DERIVED = frozenset((PTR, ARRAY, FUNC_PROTO))
QUALIFIERS = {int(Kind.VOLATILE): "volatile", int(Kind.CONST): "const", int(Kind.RESTRICT): "restrict"}
MODIFIERS = frozenset((TYPE_TAG, *QUALIFIERS))
NOT_C = frozenset(map(int, (Kind.FUNC, Kind.VAR, Kind.DATASEC, Kind.DECL_TAG)))
"""Kinds that are no types of C."""
_OF_C = frozenset(map(int, Kind)) - NOT_C - {int(Kind.VOID)}

MAX_CHAIN = 200
"""Longest chain of types by declaration or by value; kernels have some tens."""

_LONGEST_ALIGNMENT = 16
_NO_NAME = "\1"
_IDENTIFIERS = bytes(byte if chr(byte) in f"\0{ascii_letters}{digits}_" else ord(_NO_NAME) for byte in range(256))
_MASKED = bytes(value & KIND_MASK for value in range(256))
_ATTRIBUTE_TEXT = re.compile(r"[\w .:/-]*", re.ASCII)
_ATTRIBUTE = re.compile(r"\w+(?:\(\w*\))?", re.ASCII)
_BASE_NAME = re.compile(r"[A-Za-z_]\w*(?: \w+)*", re.ASCII)


_STEPS_PER_TYPE = 4
"""What a type costs of a budget. Kernels have 23,000 types per MB; a forged BTF could have 90,000."""
_COPIES = 4
"""How often a name is in memory while a header is written."""
_AT_ONCE = 1 << 14
"""Names that are read between two looks at the budget."""
_TOO_LONG = re.compile(rb"[^\0]{%d}" % (BTF_NAME.most + 1))


class CTypes:
    """The types of one BTF, base and all, by id."""

    def __init__(self, btf: Btf) -> None:
        self.source = btf.source
        self.words, self.starts = btf.tables()
        # void is three words of zeros after all others
        self.starts.insert(0, len(self.words))
        self.words.extend((0, 0, 0))
        tops = self.words.tobytes()[7::4] if sys.byteorder == "little" else self.words.tobytes()[4::4]
        # two, so that the getter gives a tuple even where void is the only type
        self.kinds = bytes(itemgetter(0, *self.starts)(tops.translate(_MASKED)))[1:]
        """The kind of each type."""
        budget = Budget(btf.source, len(btf.data), error=BtfError)
        budget.work(_STEPS_PER_TYPE * len(self.kinds))
        self.names = Names(btf, budget)
        self.pointer_size = btf.pointer_size

    def __len__(self) -> int:
        return len(self.kinds)

    def of_c(self) -> list[int]:
        """Every type that is one of C."""
        return self.ids(_OF_C)

    def ids(self, kinds: Set[int]) -> list[int]:
        """Every type of these kinds, rising."""
        return list(compress(range(len(self.kinds)), self.kinds.translate(bytes(map(kinds.__contains__, range(256))))))

    @contextmanager
    def checked_ids(self) -> Iterator[None]:
        """For code that follows ids and offsets of names: too high an id is an IndexError, too high an offset a
        ValueError."""
        try:
            yield
        except ValueError as error:
            raise BtfError(f"{self.source}: the name of a type is beyond the string section") from error
        except IndexError as error:
            raise BtfError(f"{self.source}: a type refers to one beyond the last, {len(self) - 1}") from error

    def name(self, type_id: int) -> str:
        return self.names[self.words[self.starts[type_id]]]

    def count(self, type_id: int) -> int:
        """vlen: members, enumerators or parameters."""
        return self.words[self.starts[type_id] + 1] & VLEN_MASK

    def flag(self, type_id: int) -> bool:
        return bool(self.words[self.starts[type_id] + 1] >> 31)

    def size(self, type_id: int) -> int:
        """Bytes of an integer, a composite or an enum."""
        return self.words[self.starts[type_id] + 2]

    def target(self, type_id: int) -> int:
        """What a pointer, modifier, typedef, array or variable refers to, or what a prototype returns."""
        return self.words[self.starts[type_id] + (3 if self.kinds[type_id] == ARRAY else 2)]

    def length(self, type_id: int) -> int:
        """Elements of an array."""
        return self.words[self.starts[type_id] + 5]

    def column(self, type_id: int, number: int, *, width: int) -> array[int]:
        """One word of each member, enumerator or parameter; each has `width` of them."""
        words, at = self.words, self.starts[type_id]
        return words[at + 3 + number : at + 3 + width * (words[at + 1] & VLEN_MASK) : width]

    def referred(self, type_id: int) -> array[int]:
        """The types of a composite's members or a prototype's parameters."""
        words, at = self.words, self.starts[type_id]
        width = 2 if self.kinds[type_id] == FUNC_PROTO else 3
        return words[at + 4 : at + 3 + width * (words[at + 1] & VLEN_MASK) : width]

    def members(self, type_id: int) -> Iterator[tuple[int, int, int, int]]:
        """Name offset, type, offset and bitfield width in bits of each member of a composite."""
        words, at = self.words, self.starts[type_id]
        end = at + 3 + 3 * (words[at + 1] & VLEN_MASK)
        names, types, offsets = words[at + 3 : end : 3], words[at + 4 : end : 3], words[at + 5 : end : 3]
        if words[at + 1] >> 31:
            widths = [offset >> 24 for offset in offsets]
            return zip(names, types, [offset & 0xFFFFFF for offset in offsets], widths, strict=True)
        if self.narrow_integers:
            narrow = [self.narrow_integers.get(self.unqualified(member), (0, 0)) for member in types]
            moved = [offset + by for offset, (by, _) in zip(offsets, narrow, strict=True)]
            return zip(names, types, moved, [width for _, width in narrow], strict=True)
        return zip(names, types, offsets, repeat(0))

    def base_name(self, type_id: int) -> str:
        """An integer or floating point type as C spells it."""
        return self.names.spelled(self.words[self.starts[type_id]], _BASE_NAME)

    def attribute(self, type_id: int) -> str:
        """The attribute of a type tag, as C spells it."""
        offset = self.words[self.starts[type_id]]
        if self.flag(type_id):
            return self.names.spelled(offset, _ATTRIBUTE)
        return f'btf_type_tag("{self.names.spelled(offset, _ATTRIBUTE_TEXT)}")'

    def fail(self, type_id: int, what: str) -> BtfError:
        return BtfError(f"{self.source}: type {type_id} {what}, as no type of a C program is")

    def kfuncs(self) -> list[int]:
        """Every FUNC that carries the declaration tag `bpf_kfunc`, which pahole adds from 1.27 on. Rising."""
        tags = self.ids(frozenset((DECL_TAG,)))
        tagged = compress(tags, self.names.among([self.words[self.starts[tag]] for tag in tags], {"bpf_kfunc"}))
        return sorted({self.target(tag) for tag in tagged if self.kinds[self.target(tag)] == FUNC})

    @cached_property
    def narrow_integers(self) -> dict[int, tuple[int, int]]:
        """Bit offset and width of the integers that are bitfields by themselves, as old compilers made them."""
        encodings = {type_id: self.words[self.starts[type_id] + 3] for type_id in self.ids(frozenset((INT,)))}
        return {
            type_id: (encoding >> 16 & 0xFF, encoding & 0xFF)
            for type_id, encoding in encodings.items()
            if encoding & 0xFF != 8 * self.size(type_id) & 0xFF
        }

    def unqualified(self, type_id: int) -> int:
        """The type behind typedefs, qualifiers and type tags."""
        for _ in range(MAX_CHAIN):
            if self.kinds[type_id] != TYPEDEF and self.kinds[type_id] not in MODIFIERS:
                return type_id
            type_id = self.target(type_id)
        raise self.fail(type_id, "is a loop of typedefs or qualifiers")


class Names(dict[int, str]):
    """Identifiers by their offset in the string section.

    The header must hold nothing but declarations, whatever the BTF holds. So a character that no identifier has is read
    as `_NO_NAME`, and `check()` refuses a text that has it.
    """

    def __init__(self, btf: Btf, budget: Budget) -> None:
        super().__init__({0: ""})
        self._btf = btf
        self._budget = budget
        if _TOO_LONG.search(btf.strings):
            BTF_NAME.check(BTF_NAME.most + 1, source=btf.source, error=BtfError)
        self.all = btf.strings.translate(_IDENTIFIERS).decode("ascii")
        """All of them, each followed by a NUL, for loops that cannot afford a call for each."""

    def __missing__(self, offset: int) -> str:
        name = self[offset] = self.all[offset : self.all.index("\0", offset)]
        return name

    def load(self, offsets: Sequence[int]) -> None:
        """Look up what will be asked for one by one."""
        self.update(zip(offsets, self.each(offsets), strict=True))

    def each(self, offsets: Sequence[int]) -> list[str]:
        """Names at some offsets, in less time than one by one."""
        strings, found = self.all, list[str]()
        for start in range(0, len(offsets), _AT_ONCE):
            block = [strings[at : strings.index("\0", at)] for at in offsets[start : start + _AT_ONCE]]
            self._budget.unpack(_COPIES * sum(map(len, block)))
            found += block
        return found

    def among(self, offsets: Sequence[int], wanted: Set[str]) -> Iterator[bool]:
        """Whether each of the names at some offsets is wanted."""
        return map(wanted.__contains__, self.each(offsets))

    def check(self, text: str) -> None:
        """Raises `BtfError` if a text holds a name that C does not allow."""
        found = (
            re.search(f"\\w*{_NO_NAME}(?:[\\w{_NO_NAME}]*{_NO_NAME})?", text, re.ASCII) if _NO_NAME in text else None
        )
        if found:
            name = self._btf.string(self.all.index(found[0]))
            raise BtfError(f"{self._btf.source}: {name[:80]!r} cannot be a name in C")

    def spelled(self, offset: int, form: re.Pattern[str]) -> str:
        """A string that may be more than one identifier."""
        text = self._btf.string(offset)
        if not form.fullmatch(text):
            raise BtfError(f"{self._btf.source}: {text[:80]!r} cannot be written in C")
        return text


class Layouts(dict[int, tuple[int, int]]):
    """Size and alignment of each type, in bits, by id: what clang will give the type as the dump writes it."""

    def __init__(self, types: CTypes) -> None:
        super().__init__()
        self._types = types
        self.packed: set[int] = set()
        """Composites that have their layout only with `__attribute__((packed))`."""

    def __missing__(self, type_id: int) -> tuple[int, int]:
        types, kind = self._types, self._types.kinds[type_id]
        if kind == PTR:
            found = 8 * types.pointer_size, 8 * types.pointer_size
        elif kind in COMPOSITES:
            found = 8 * types.size(type_id), self._alignment(type_id)
        elif kind in BASES or kind in ENUMS:
            size = types.size(type_id)
            # __int128 is aligned to its size for BPF as for the kernel, where pointers have 8 bytes
            longest = _LONGEST_ALIGNMENT if types.pointer_size == 8 else types.pointer_size
            found = 8 * size, 8 * max(1, min(size, longest))
        else:
            found = self._of_elements(type_id)
        self[type_id] = found
        return found

    def _of_elements(self, type_id: int) -> tuple[int, int]:
        """For an array, a typedef or a modifier."""
        types, at, count = self._types, type_id, 1
        for _ in range(MAX_CHAIN):
            kind = types.kinds[at]
            if kind == ARRAY:
                count *= types.length(at)
            elif kind != TYPEDEF and kind not in MODIFIERS:
                break
            at = types.target(at)
        else:
            raise types.fail(type_id, "is a loop of typedefs, qualifiers or arrays")
        if at == type_id:
            raise types.fail(type_id, "has no size but is held by value")
        size, align = self[at]
        return count * size, align

    def _alignment(self, type_id: int) -> int:
        """The alignment of a composite: 8 if its members lie as only those of a packed one can."""
        size, align, packed = 8 * self._types.size(type_id), 8, False
        for _, member, offset, width in self._types.members(type_id):
            unit, its_align = self[member]
            if its_align > align:
                align = its_align
            if width:
                # a bitfield does not straddle two units of its type
                packed |= unit > 0 and offset // unit != (offset + width - 1) // unit
            else:
                packed |= offset % its_align != 0
        if packed or size % align:
            self.packed.add(type_id)
            return 8
        return align
