"""A kernel's BTF that records which names it is asked for, and an excerpt that can answer the same questions again.

Input: raw BTF; for an excerpt, what `pack()` made of one. Output: `Btf`s. Resolving, minimizing and checking only ever
get into a kernel's BTF by a name. So an excerpt with all types of the names that were asked for, and with what these
are made of, answers for the whole BTF; for any other name it raises `NotInExcerptError`, and the whole BTF is needed.
"""

from __future__ import annotations

import json
from array import array

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import NAMED_IN_C, Btf, only_in_c
from hatch_bpf.btf.types import (
    ENTRY_REFERENCES,
    EXTRA_WORDS,
    FIXED_WORDS,
    REFERRING,
    VLEN_MASK,
    WORDS_PER_ENTRY,
)
from hatch_bpf.btf.writer import write_types

NEAR_NOTE = "near "
"""Prefix of a name in the record: names like it were looked for. No type has such a name."""


class NotInExcerptError(Exception):
    """The excerpt cannot answer, and the whole BTF is needed. Never leaves the build."""


class _AskedByName(Btf):
    """A BTF whose `find()` sees every question: the other methods ask it first."""

    def flavors(self, name: str) -> list[str]:
        self.find(name, *NAMED_IN_C)
        return super().flavors(name)

    def near(self, name: str, *kinds: t.Kind, prefix: str = "") -> str:
        # the types that may be found are looked for themselves; this notes that any were
        self.find(NEAR_NOTE + prefix + name)
        return super().near(name, *kinds, prefix=prefix)


class RecordedBtf(_AskedByName):
    """A whole BTF that records the names that were looked up, and what was found."""

    def __init__(self, data: bytes, *, source: str) -> None:
        super().__init__(data, source=source)
        self.asked: dict[str, list[int]] = {}
        """Among all types."""
        self.asked_in_c: dict[str, list[int]] = {}
        """Among those that are `NAMED_IN_C`."""

    def find(self, name: str, *kinds: t.Kind) -> list[int]:
        asked, among = (self.asked_in_c, NAMED_IN_C) if only_in_c(kinds) else (self.asked, ())
        if name not in asked:
            asked[name] = super().find(name, *among)
        return [type_id for type_id in asked[name] if not kinds or self.kind(type_id) in kinds]

    def pack(self, former: Excerpt | None = None) -> bytes:
        """The excerpt that knows every name asked for, and those that a former excerpt of this BTF knows."""
        if former is not None:
            self.expect(former.names | former.names_in_c)
            for name in former.names:
                self.find(name)
            for name in former.names_in_c:
                self.find(name, *NAMED_IN_C)
        seeds = {type_id for ids in (*self.asked.values(), *self.asked_in_c.values()) for type_id in ids}
        # by this one pointers get their size
        seeds.add(self.long_id)
        head = json.dumps([sorted(self.asked), sorted(self.asked_in_c)])
        return head.encode() + b"\n" + cut(self, seeds)


class Excerpt(_AskedByName):
    """Answers like the whole BTF for the names it knows. Types are renumbered, in the same order."""

    def __init__(self, packed: bytes, *, source: str) -> None:
        """Unpack what `RecordedBtf.pack()` made. The caller must know that it is undamaged."""
        head, _, data = packed.partition(b"\n")
        self.names, self.names_in_c = map(frozenset, json.loads(head))
        """Names of which it knows all types, and names of which it knows only the types that are `NAMED_IN_C`."""
        super().__init__(data, source=source)
        self.expect(self.names | self.names_in_c)

    def find(self, name: str, *kinds: t.Kind) -> list[int]:
        if name not in self.names and not (name in self.names_in_c and only_in_c(kinds)):
            raise NotInExcerptError(name)
        return super().find(name, *kinds)


_COMPOSITES = (t.Kind.STRUCT, t.Kind.UNION)


def cut(kernel: Btf, seeds: set[int]) -> bytes:
    """Raw BTF of types and everything they are made of, but without the members of structs and unions behind pointers.

    What a section holds is left out as well.
    """
    whole, bare = _reach(kernel, seeds)

    def record(type_id: int) -> tuple[t.Kind, array[int]]:
        kind, words = kernel.record(type_id)
        if type_id not in whole or kind is t.Kind.DATASEC:
            words[1] &= ~VLEN_MASK
            del words[FIXED_WORDS:]
        return kind, words

    return write_types(kernel, sorted(whole | bare), record)


def _reach(kernel: Btf, seeds: set[int]) -> tuple[set[int], set[int]]:
    """The types that are needed whole, and those that are needed only by name.

    A relocation can reach nothing else from the seeds: behind a pointer, matching looks only at names, but it starts
    afresh in the elements of arrays and in the parameters of functions.
    """
    whole: set[int] = set()
    bare: set[int] = set()
    walked: set[tuple[int, bool]] = {(0, False), (0, True)}
    pending = [(type_id, False) for type_id in seeds]
    while pending:
        step = pending.pop()
        if step in walked:
            continue
        walked.add(step)
        type_id, is_behind = step
        kind, record = kernel.record(type_id)
        if is_behind and kind in _COMPOSITES:
            bare.add(type_id)
            continue
        whole.add(type_id)
        if kind in REFERRING:
            pending.append((record[2], kind is t.Kind.PTR or (is_behind and kind is not t.Kind.FUNC_PROTO)))
        width = WORDS_PER_ENTRY.get(kind) or EXTRA_WORDS.get(kind, 0)
        for word in ENTRY_REFERENCES.get(kind, ()):
            pending += [(found, False) for found in record[FIXED_WORDS + word :: width]]
    return whole, bare - whole
