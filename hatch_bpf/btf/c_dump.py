"""BTF -> the text of a C header: vmlinux.h, as `bpftool btf dump file KERNEL format c` writes it.

Input: a `Btf`, and the ids of the types wanted (all by default). Output: C that compiles for the BPF target, its
types laid out as in the kernel; or `BtfError` for BTF that no C program could have given. The order of definitions,
forward declarations and the `___2` of a name met twice follow libbpf's btf_dump.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice, repeat

from hatch_bpf.btf.c_order import order
from hatch_bpf.btf.c_types import (
    ARRAY,
    BASES,
    COMPOSITES,
    CONST,
    DERIVED,
    ENUM,
    ENUM64,
    ENUMS,
    FUNC_PROTO,
    FWD,
    MAX_CHAIN,
    MODIFIERS,
    PTR,
    QUALIFIERS,
    STRUCT,
    TYPE_TAG,
    TYPEDEF,
    CTypes,
    Layouts,
)  # fmt: skip
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import VLEN_MASK, signed

GUARD = "__VMLINUX_H__"
"""The header's include guard, which libbpf's own headers look for."""

_HEAD = f"""\
#ifndef {GUARD}
#define {GUARD}

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

"""
_TAIL = f"""\
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* {GUARD} */
"""
_NO_TYPE_TAGS = """\
#if !__has_attribute(btf_type_tag)
#define btf_type_tag(value)
#endif

"""
"""clang knows type tags from 14 on; before, each is a warning."""

_KFUNCS_HEAD = """\
#ifndef BPF_NO_KFUNC_PROTOTYPES
#ifndef __ksym
#define __ksym __attribute__((section(".ksyms")))
#endif
#ifndef __weak
#define __weak __attribute__((weak))
#endif

"""
_KFUNCS_TAIL = "\n#endif\n\n"

_ALIASES = {
    "__Poly8_t": "unsigned char",
    "__Poly16_t": "unsigned short",
    "__Poly64_t": "unsigned long long",
    "__Poly128_t": "unsigned __int128",
}
"""GCC's own types for arm64, which clang doesn't have."""
_VA_LIST = "__builtin_va_list"
"""A typedef that each compiler defines in its own way, so the type behind the kernel's is written instead."""
_VA_LIST_OF_VOID = "__gnuc_va_list"
"""What old GCCs made of a typedef of it."""

_MODES = {1: "byte", 2: "HI", 8: "word"}
"""By bytes, the machine mode that gives an enum another size than an int's."""

_MAX_NESTING = 60
"""Anonymous types and prototypes inside each other."""
_LEAST_TEXT = 1 << 20
_TEXT_PER_WORD = 12
"""Characters a header may have, at least and for each word of the type section. Kernels have 3.6 for each."""
_SHORT = 128
"""Characters of a declaration that is worth keeping."""


def dump_c(btf: Btf, roots: Iterable[int] | None = None) -> str:
    """The header. `roots` are ids of types that must be complete; what they need comes along. Raises `BtfError`."""
    types = CTypes(btf)
    return write_c(types, types.of_c() if roots is None else roots)


def write_c(types: CTypes, roots: Iterable[int], kfuncs: Sequence[int] = ()) -> str:
    """The same from tables that are there already. `kfuncs` are ids of functions to declare, as bpftool 7.5 does."""
    with types.checked_ids():
        wanted = {*roots, *map(types.target, kfuncs)}
        writer = _Writer(types, limit=_LEAST_TEXT + _TEXT_PER_WORD * len(types.words))
        return writer.write(order(types, sorted(wanted)), kfuncs)


class _Writer:
    """Writes definitions in the order given, each after the forward declarations that it needs."""

    def __init__(self, types: CTypes, *, limit: int) -> None:
        self._types = types
        self._kinds, self._words, self._starts = types.kinds, types.words, types.starts
        self._narrow = bool(types.narrow_integers)
        self._layouts = Layouts(types)
        self._left = limit
        """Characters that may still be written: types inside types can double the text with each step."""
        self._out: list[str] = []
        self._declared = bytearray(len(types))
        """Types that may be mentioned at this point."""
        self._declared[0] = 1
        self._defined = bytearray(len(types))
        self._open: set[int] = set()
        """Typedefs and anonymous composites whose insides are being looked at."""
        self._seen_for: dict[int, int] = {}
        """For types that are not declared, the definition for which they were last looked at."""
        self._tags: dict[str, int] = {}
        """How often the tag of a struct, union or enum was used."""
        self._identifiers: dict[str, int] = {}
        """The same for typedefs and enumerators, which have a name space of their own."""
        self._given = {0: "void"}
        """What each type is called, by id: `struct tag`, with the tag that it was given, or the name of a typedef."""
        self._named: dict[int, tuple[str, str]] = {}
        """What a declaration has before and after the name, by the type's id."""
        self._unnamed: dict[int, tuple[str, str]] = {}
        """The same without a name."""
        self._known: dict[int, tuple[str, str, int, int]] = {}
        """The same with a name, and size and alignment, for the types of members."""
        self._inlined = 0
        """Anonymous types written so far: declarations with one inside differ from place to place."""
        self._has_type_tags = False

    def write(self, queue: Sequence[int], kfuncs: Sequence[int]) -> str:
        """The header with these definitions, then declarations of kfuncs."""
        out, kinds, declared, defined = self._out, self._kinds, self._declared, self._defined
        self._types.names.load([self._words[self._starts[type_id]] for type_id in queue])
        for type_id in queue:
            if defined[type_id]:
                continue
            kind = kinds[type_id]
            if kind in COMPOSITES:
                out.append(f"{self._composite(type_id, 0, 0)};\n\n")
            elif kind in ENUMS:
                # `enum;` declares nothing
                if self._types.count(type_id) or self._types.name(type_id):
                    out.append(f"{self._enum(type_id, 0)};\n\n")
            else:
                self._declare(type_id, 0, 0)
            defined[type_id] = declared[type_id] = 1
        if kfuncs:
            # first whatever their parameters mention
            for func in kfuncs:
                self._declare(self._types.target(func), 0, 0)
            out += (_KFUNCS_HEAD, *map(self._kfunc, kfuncs), _KFUNCS_TAIL)
        text = "".join((_HEAD, _NO_TYPE_TAGS if self._has_type_tags else "", *out, _TAIL))
        self._types.names.check(text)
        return text

    def _kfunc(self, func: int) -> str:
        """The declaration of a kfunc; nothing if a typedef or an enumerator has its name."""
        name = self._types.name(func)
        if self._free(name, self._identifiers) != name:
            return ""
        left, right = self._declaration(self._types.target(func), True, 0, 0)
        return f"extern {left}{name}{right} __weak __ksym;\n"

    def _meet(self, members: Iterable[int], holder: int) -> None:
        """Declare what a struct's members mention. That settles how most are written, such as pointers to a name."""
        declared, kinds, words, starts, given = self._declared, self._kinds, self._words, self._starts, self._given
        known, width = self._known, 8 * self._types.pointer_size
        for member in members:
            if member in known:
                continue
            kind, at = kinds[member], starts[member]
            if kind == PTR:
                target, prefix = words[at + 2], ""
                if kinds[target] == CONST:
                    target, prefix = words[starts[target] + 2], "const "
                if not declared[target]:
                    self._declare(target, holder, 1)
                if declared[target]:
                    declared[member] = 1
                    name = given.get(target)
                    if name and len(name) < _SHORT:
                        known[member] = f"{prefix}{name} *", "", width, width
                        continue
            if not declared[member]:
                self._declare(member, holder, 1)
            name = given.get(member)
            if name and declared[member] and len(name) < _SHORT:
                known[member] = f"{name} ", "", *self._layouts[member]
            elif kind == ARRAY and words[at + 3] in known:
                left, right, size, align = known[words[at + 3]]
                if len(right) < _SHORT:
                    known[member] = left, f"[{words[at + 5]}]{right}", words[at + 5] * size, align

    def _declare_all(self, type_id: int, holder: int, depth: int) -> bool:
        """Declare what a composite's members or a prototype's parameters mention. True if all is declared now."""
        declared, kinds, words, starts = self._declared, self._kinds, self._words, self._starts
        all_declared = True
        for member in self._types.referred(type_id):
            if not declared[member]:
                # most are pointers to what is declared already
                if kinds[member] == PTR and declared[words[starts[member] + 2]] == 1:
                    declared[member] = 1
                else:
                    self._declare(member, holder, depth + 1)
                    all_declared &= declared[member] == 1
        return all_declared

    def _declare(self, type_id: int, holder: int, depth: int) -> None:
        """Write what must stand before the definition of `holder`, so that it may mention a type."""
        types = self._types
        if self._declared[type_id]:
            return
        if depth > MAX_CHAIN:
            raise types.fail(type_id, f"is more than {MAX_CHAIN} steps deep inside others")
        kind = types.kinds[type_id]
        if kind == FWD or (kind in COMPOSITES and self._words[self._starts[type_id]]):
            # inside its own definition it needs no other
            if type_id != holder:
                self._out.append(f"{self._reference(type_id)};\n\n")
                self._declared[type_id] = 1
        elif kind == TYPEDEF:
            self._declare_typedef(type_id, depth)
        elif kind in BASES:
            name = self._given[type_id] = types.base_name(type_id)
            if name in _ALIASES:
                self._out.append(f"typedef {_ALIASES[name]} {name};\n\n")
            self._declared[type_id] = 1
        elif kind in ENUMS:
            self._declared[type_id] = 1
        elif self._seen_for.get(type_id) != holder:
            self._declare_inside(type_id, holder, depth)

    def _declare_typedef(self, type_id: int, depth: int) -> None:
        target = self._words[self._starts[type_id] + 2]
        if not self._declared[target] and type_id not in self._open:
            self._open.add(type_id)
            self._declare(target, type_id, depth + 1)
            self._open.remove(type_id)
        # its own target may have mentioned it, through a pointer
        if not self._declared[type_id]:
            self._declared[type_id] = 1
            name = self._types.name(type_id)
            if name == _VA_LIST_OF_VOID and not target:
                self._out.append(f"typedef {_VA_LIST} {_VA_LIST_OF_VOID};\n\n")
            elif name != _VA_LIST:
                left, right = self._declaration(target, True, 0, 0)
                self._out.append(f"typedef {left}{self._identifier(type_id)}{right};\n\n")

    def _declare_inside(self, type_id: int, holder: int, depth: int) -> None:
        """For a type that is no definition itself: a pointer, a prototype, an anonymous composite."""
        types, kind = self._types, self._types.kinds[type_id]
        done = True
        if kind in COMPOSITES:
            if type_id in self._open:
                raise types.fail(type_id, "holds itself")
            self._open.add(type_id)
            done = self._declare_all(type_id, holder, depth)
            self._open.remove(type_id)
        elif kind in DERIVED or kind in MODIFIERS:
            target = types.target(type_id)
            self._declare(target, holder, depth + 1)
            done = self._declared[target] == 1
            if kind == FUNC_PROTO:
                done &= self._declare_all(type_id, holder, depth)
        else:
            raise types.fail(type_id, "is a function or a variable where a type belongs")
        if done:
            self._declared[type_id] = 1
        else:
            self._seen_for[type_id] = holder

    def _composite(self, type_id: int, level: int, depth: int) -> str:
        """`struct name {...}` with its padding made explicit where C would have another.

        The loop is half of the time that a whole header takes: hence one look-up for all that it needs of a type, and a
        layout that is checked on the way. Only where C would have another does `Layouts` look closer.
        """
        known, words, strings = self._known, self._words, self._types.names.all
        find = strings.index
        # what members of other types had before is declared
        reference = self._keyword(type_id) if level else self._given.get(type_id)
        has_met = level > 0
        at = self._starts[type_id]
        info, size = words[at + 1], 8 * words[at + 2]
        stop = at + 3 + 3 * (info & VLEN_MASK)
        texts, align, end = [], 8, 0
        plain = not (info >> 31 or self._narrow)
        triples = iter(words[at + 3 : stop])
        for name_at, member, offset in zip(triples, triples, triples, strict=True):
            name = strings[name_at : find("\0", name_at)]
            if name and member in known:
                left, right, its_size, its_align = known[member]
            else:
                if not has_met:
                    self._meet(words[at + 4 : stop : 3], type_id)
                    reference = self._reference(type_id)
                    has_met = True
                found = known.get(member) if name else None
                left, right, its_size, its_align = found or self._member(member, name != "", level + 1, depth)
            texts.append(f"{left}{name}{right}")
            if offset % its_align or offset - end >= its_align:
                plain = False
            elif its_align > align:
                align = its_align
            end = offset + its_size
        reference = reference or self._reference(type_id)
        indent = "\n" + "\t" * (level + 1)
        if plain and texts and not size % align and (0 <= size - end < align or self._kinds[type_id] != STRUCT):
            self._layouts[type_id] = size, align
            text = f"{reference} {{{indent}{f';{indent}'.join(texts)};{indent[:-1]}}}"
        else:
            body = self._padded(type_id, texts, indent)
            attribute = " __attribute__((packed))" if type_id in self._layouts.packed else ""
            text = f"{reference} {{{body}{indent[:-1] if body else ''}}}{attribute}"
        self._spend(type_id, len(text))
        return text

    def _member(self, type_id: int, named: bool, level: int, depth: int) -> tuple[str, str, int, int]:
        """What a declaration has before and after a member's name, and the size and alignment of its type."""
        if not named:
            return self._anonymous_member(type_id, level, depth), "", *self._layouts[type_id]
        found = *self._declaration(type_id, True, level, depth), *self._layouts[type_id]
        if type_id in self._named:
            self._known[type_id] = found
        return found

    def _padded(self, type_id: int, texts: Iterable[str], indent: str) -> str:
        """The members, with explicit padding. `texts` are their declarations."""
        types, layouts = self._types, self._layouts
        size, align = layouts[type_id]
        is_struct, packed = types.kinds[type_id] == STRUCT, type_id in layouts.packed
        lines = []
        end = was_bits = 0
        for (_, member, offset, bits), text in zip(types.members(type_id), texts, strict=True):
            its_size, its_align = layouts[member]
            if offset > end and is_struct:
                natural = _natural_offset(end, 8 if packed else its_align, its_size, 0 if packed else bits)
                if offset != natural or (bits and was_bits):
                    lines.append(self._padding(end, offset, 8 if packed else its_align, bits != 0, indent))
            width = f": {bits}" if bits else ""
            lines.append(f"{indent}{text}{width};")
            end = offset + (bits or its_size)
            was_bits = bits
        if is_struct and -(-end // align) * align != size:
            lines.append(self._padding(end, size, align, False, indent))
        return "".join(lines)

    def _anonymous_member(self, type_id: int, level: int, depth: int) -> str:
        """A member without a name, its type in full: C takes `struct tag;` for one only with -fms-extensions, which
        kernels are built with from 6.19 on."""
        found = self._types.unqualified(type_id)
        if self._types.kinds[found] not in COMPOSITES or not self._types.name(self._chain(type_id)[-1]):
            return "".join(self._declaration(type_id, False, level, depth))
        self._inlined += 1
        if depth > _MAX_NESTING:
            raise self._types.fail(type_id, f"is inside {_MAX_NESTING} others")
        return self._composite(found, level, depth + 1)

    def _padding(self, at: int, to: int, align: int, in_bitfield: bool, indent: str) -> str:
        """Unnamed bitfields that fill the bits from `at` to `to`, as libbpf chooses them."""
        if at >= to:
            return ""
        lines = []
        kinds = (("long", 8 * self._types.pointer_size), ("int", 32), ("short", 16), ("char", 8))
        kind, width, start = next(
            ((kind, width, start) for kind, width in kinds if (start := -(-at // width) * width) <= to), ("", 0, 0)
        )
        if not kind:
            return f"{indent}char: {to - at};"
        if start > at:
            if in_bitfield:
                lines.append(f"{indent}{kind}: {start - at};")
            elif start == to:
                # not needed where the next member's own alignment does the same
                if -(-at // align) * align != start:
                    lines.append(f"{indent}{kind}: 0;")
            elif to - start <= start - at:
                # what follows would fit into the hole
                lines.append(f"{indent}{kind}: 0;")
        full, rest = divmod(to - start, width)
        line = f"{indent}{kind}: {width};"
        self._spend(0, full * len(line))
        lines.append(line * full)
        if rest:
            smallest = [kind for kind, width in kinds if width >= rest][-1]
            lines.append(f"{indent}{smallest}: {rest};")
        return "".join(lines)

    def _enum(self, type_id: int, level: int) -> str:
        """`enum name {...}`, or without enumerators only the name."""
        words, at = self._words, self._starts[type_id]
        count, width = words[at + 1] & VLEN_MASK, 2 if self._kinds[type_id] == ENUM else 3
        if not count:
            return self._reference(type_id)
        stop = at + 3 + width * count
        names = self._distinct(self._types.names.each(words[at + 3 : stop : width]))
        values: Iterable[object] = words[at + 4 : stop : width]
        if width == 3:
            values = self._wide(type_id)
        elif words[at + 1] >> 31:
            values = [signed(value, 32) for value in words[at + 4 : stop : width]]
        indent = "\n" + "\t" * (level + 1)
        lines = [f"{indent}{name} = {value}," for name, value in zip(names, values, strict=True)]
        reference = self._given.get(type_id) or self._reference(type_id)
        text = f"{reference} {{{''.join(lines)}{indent[:-1]}}}{self._enum_mode(type_id)}"
        self._spend(type_id, len(text))
        return text

    def _distinct(self, names: list[str]) -> list[str]:
        """Names for enumerators that no others have."""
        used = self._identifiers
        before = len(used)
        deque(map(used.setdefault, names, repeat(1)), maxlen=0)
        added = len(used) - before
        if added == len(names):
            return names
        new = set(islice(reversed(used), added))
        texts = []
        for name in names:
            # of two in one enum, the first has the name
            if name in new:
                new.remove(name)
                texts.append(name)
            else:
                texts.append(self._free(name, used))
        return texts

    def _wide(self, type_id: int) -> list[str]:
        """The values of 64-bit enumerators."""
        low, high = self._types.column(type_id, 1, width=3), self._types.column(type_id, 2, width=3)
        values = [low | high << 32 for low, high in zip(low, high, strict=True)]
        if self._types.flag(type_id):
            return [f"{signed(value, 64)}LL" for value in values]
        return [f"{value}ULL" for value in values]

    def _enum_mode(self, type_id: int) -> str:
        """The attribute that gives an enum its size where its values don't."""
        size = self._words[self._starts[type_id] + 2]
        if size == 8 and self._kinds[type_id] == ENUM64 and any(self._types.column(type_id, 2, width=3)):
            return ""
        return f" __attribute__((mode({_MODES[size]})))" if size in _MODES else ""

    def _declaration(self, type_id: int, named: bool, level: int, depth: int) -> tuple[str, str]:
        """What a declaration has before and after the name: `int (*` and `)[4]`."""
        cache = self._named if named else self._unnamed
        if type_id in cache:
            return cache[type_id]
        if depth > _MAX_NESTING:
            raise self._types.fail(type_id, f"is inside {_MAX_NESTING} others")
        inlined = self._inlined
        found = self._simple(type_id, named, level, depth) or self._unwind(self._chain(type_id), named, level, depth)
        size = len(found[0]) + len(found[1])
        self._spend(type_id, size)
        if inlined == self._inlined and size < _SHORT:
            cache[type_id] = found
        return found

    def _simple(self, type_id: int, named: bool, level: int, depth: int) -> tuple[str, str] | None:
        """What `_unwind()` gives, at a fraction of its cost: for a type with a name, perhaps constant, for a pointer to
        it, for an array of such, and for a pointer to a function that returns one. Nearly all types are such."""
        kinds, words, starts = self._kinds, self._words, self._starts
        space, prefix, kind = " " if named else "", "", kinds[type_id]
        if kind == ARRAY and named:
            element = words[starts[type_id] + 3]
            known = self._named.get(element) or (kinds[element] != ARRAY and self._simple(element, True, level, depth))
            return (known[0], f"[{words[starts[type_id] + 5]}]{known[1]}") if known else None
        if kind == PTR:
            space, type_id = " *", words[starts[type_id] + 2]
            kind = kinds[type_id]
            if kind == FUNC_PROTO:
                name = self._given.get(words[starts[type_id] + 2])
                return (f"{name} (*", f")({self._parameters(type_id, level, depth)})") if name else None
        if kind == CONST:
            prefix, type_id = "const ", words[starts[type_id] + 2]
        name = self._given.get(type_id)
        return (f"{prefix}{name}{space}", "") if name else None

    def _chain(self, type_id: int) -> list[int]:
        """From a type down to the one with a name (or braces): what C's declarations wind around a name."""
        types, chain = self._types, [type_id]
        for _ in range(MAX_CHAIN):
            kind = types.kinds[type_id]
            if kind == TYPEDEF and types.name(type_id) == _VA_LIST:
                chain.pop()
            elif kind not in DERIVED and kind not in MODIFIERS:
                return chain
            type_id = types.target(type_id)
            chain.append(type_id)
        raise types.fail(type_id, f"is at the end of more than {MAX_CHAIN} pointers, arrays and qualifiers")

    def _unwind(self, chain: list[int], named: bool, level: int, depth: int) -> tuple[str, str]:
        types = self._types
        type_id = chain.pop()
        # C writes qualifiers before a name, but after a pointer's star
        left = self._qualifiers(chain) + self._base(type_id, level, depth)
        right, after_star = "", False
        while chain:
            type_id = chain.pop()
            kind = types.kinds[type_id]
            if kind == PTR:
                left += "*" if after_star else " *"
            elif kind in QUALIFIERS:
                left += f" {QUALIFIERS[kind]}"
            elif kind == TYPE_TAG:
                left += f" __attribute__(({types.attribute(type_id)}))"
                self._has_type_tags = True
            else:
                # GCC puts qualifiers on arrays and functions too, which say nothing in C
                while chain and types.kinds[chain[-1]] in MODIFIERS:
                    chain.pop()
                if kind == ARRAY:
                    grouped = bool(chain) and types.kinds[chain[-1]] != ARRAY
                    suffix = f"[{types.length(type_id)}]"
                    space = " " if named and not after_star else ""
                else:
                    grouped = bool(chain)
                    suffix = f"({self._parameters(type_id, level, depth)})"
                    space = " " if grouped or (named and not after_star) else ""
                left += f"{space}(" if grouped else space
                right = (")" if grouped else "") + suffix + right
                after_star = True
                continue
            after_star = kind == PTR
        return left + (" " if named and not after_star else ""), right

    def _qualifiers(self, chain: list[int]) -> str:
        text = ""
        while chain and self._types.kinds[chain[-1]] in QUALIFIERS:
            text += f"{QUALIFIERS[self._types.kinds[chain.pop()]]} "
        return text

    def _base(self, type_id: int, level: int, depth: int) -> str:
        """The type that a declaration starts with, by its name or, if it has none, in full."""
        given = self._given.get(type_id)
        if given:
            return given
        kind = self._kinds[type_id]
        if kind in BASES:
            return self._types.base_name(type_id)
        if kind == TYPEDEF:
            return self._identifier(type_id)
        if kind == FWD or self._types.name(type_id):
            return self._reference(type_id)
        self._inlined += 1
        return self._enum(type_id, level) if kind in ENUMS else self._composite(type_id, level, depth + 1)

    def _parameters(self, type_id: int, level: int, depth: int) -> str:
        words, at = self._words, self._starts[type_id]
        stop = at + 3 + 2 * (words[at + 1] & VLEN_MASK)
        parameters = words[at + 4 : stop : 2]
        if not parameters or (len(parameters) == 1 and not parameters[0]):
            return "void"
        texts = []
        for name, parameter in zip(self._types.names.each(words[at + 3 : stop : 2]), parameters, strict=True):
            found = (self._named if name else self._unnamed).get(parameter)
            left, right = found or self._declaration(parameter, name != "", level, depth + 1)
            texts.append(f"{left}{name}{right}")
        if not parameters[-1]:
            texts[-1] = "..."
        return ", ".join(texts)

    def _reference(self, type_id: int) -> str:
        """`struct tag`; only the keyword for an anonymous type."""
        if type_id in self._given:
            return self._given[type_id]
        kind, keyword, name = self._kinds[type_id], self._keyword(type_id), self._types.name(type_id)
        if not name:
            return keyword
        if kind == FWD or (kind in ENUMS and not self._types.count(type_id)):
            return f"{keyword} {name}"
        reference = self._given[type_id] = f"{keyword} {self._free(name, self._tags)}"
        return reference

    def _keyword(self, type_id: int) -> str:
        kind = self._kinds[type_id]
        if kind in ENUMS:
            return "enum"
        return "struct" if kind == STRUCT or (kind == FWD and not self._types.flag(type_id)) else "union"

    def _identifier(self, type_id: int) -> str:
        """The name of a typedef."""
        if type_id not in self._given:
            self._given[type_id] = self._free(self._types.name(type_id), self._identifiers)
        return self._given[type_id]

    def _free(self, name: str, used: dict[str, int]) -> str:
        """A name, with `___2` and so on, as CO-RE's flavors, if others have it already."""
        count = used[name] = used.get(name, 0) + 1
        return f"{name}___{count}" if count > 1 else name

    def _spend(self, type_id: int, characters: int) -> None:
        self._left -= characters
        if self._left < 0:
            raise self._types.fail(type_id, "makes the header many times longer than its BTF")


def _natural_offset(end: int, align: int, size: int, bits: int) -> int:
    """Where C puts a member after one that ends at bit `end`."""
    if not bits:
        return -(-end // align) * align
    if size and end // size == (end + bits - 1) // size:
        return end
    return -(-end // max(size, 1)) * size
