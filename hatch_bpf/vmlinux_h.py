"""What the option `vmlinux-h` names -> the text of vmlinux.h, whole or pruned to what a program names.

Input: a BTF in any form, a kernel of the archive, `host`, or a header. Output: a `Header`, which gives its text for a
set of names; or `KernelError`. A pruned header declares what a program can reach from the types that it names, with the
same definitions as the whole one, so that the program compiles to the same code and relocations in a fraction of time.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path

from hatch_bpf.btf.c_dump import dump_c, write_c
from hatch_bpf.btf.c_types import (
    ARRAY,
    COMPOSITES,
    ENUM,
    ENUM64,
    ENUMS,
    FWD,
    INT,
    MAX_CHAIN,
    MODIFIERS,
    PTR,
    TYPEDEF,
    CTypes,
)
from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import find_archived
from hatch_bpf.kernels.remote import Archive
from hatch_bpf.kernels.sources import HOST_BTF, read_btf

HOST = "host"
"""The running kernel's BTF."""


@dataclass(frozen=True)
class HeaderFile:
    """A header that is there already."""

    path: Path

    def whole(self) -> str:
        """A header that includes it, under whatever name it has."""
        return f'#include "{self.path}"\n'

    def pruned(self, names: Set[str]) -> str:  # noqa: ARG002
        """The same: what is C already cannot be pruned."""
        return self.whole()


@dataclass(frozen=True)
class KernelHeader:
    """The types of a kernel."""

    path: Path
    btf: Btf

    def whole(self) -> str:
        """All types. Raises `BtfError`."""
        return dump_c(self.btf)

    def pruned(self, names: Set[str]) -> str:
        """The types that a program with these names can use. Raises `BtfError`.

        All types, where one of the names stands for two things: which has the plain name depends on all others.
        """
        with self._types.checked_ids():
            roots = self._roots(names)
        return self.whole() if roots is None else write_c(self._types, roots)

    @cached_property
    def _types(self) -> CTypes:
        return CTypes(self.btf)

    def _roots(self, names: Set[str]) -> set[int] | None:
        types = self._types
        named = _named(types, names)
        meanings: dict[tuple[bool, str], set[object]] = defaultdict(set)
        for type_id in named:
            if types.kinds[type_id] != FWD:
                meanings[types.kinds[type_id] == TYPEDEF, types.name(type_id)].add(_meaning(types, type_id))
        if any(name and len(meant) > 1 for (_, name), meant in meanings.items()):
            return None
        return named | _reached(types, named, names)


Header = HeaderFile | KernelHeader


def versions(header: Header, names: Set[str]) -> Iterator[str]:
    """The header's text, pruned and then whole, for the program that pastes its names together."""
    pruned = header.pruned(names)
    yield pruned
    whole = header.whole()
    if whole != pruned:
        yield whole


def find_header(source: str, *, root: Path, archive: Archive | None) -> Header:
    """The header that a source gives; relative paths are against `root`. Raises `KernelError`."""
    path = HOST_BTF if source == HOST else root / source
    if path.suffix == ".h" and path.is_file():
        if re.search(r'["\\\n]', str(path)):
            raise KernelError(f"{path}: clang cannot include a header with such a name; rename it")
        return HeaderFile(path.absolute())
    if path.exists():
        return KernelHeader(path, Btf(read_btf(path), source=str(path)))
    if archive is not None and source.count("/") == 3:
        found = find_archived(archive, Kernel.parse(source))
        if found:
            return KernelHeader(found.path, Btf(found.read(), source=found.origin))
    where = f", nor is it a kernel of the archive {archive}" if archive else ""
    raise KernelError(
        f'vmlinux.h cannot be made of "{source}": {root / source} is not a file{where}. Name a raw BTF, a vmlinux or '
        f'vmlinuz, a kernel package, a kernel of btf-archive as distro/version/arch/release, a header, or "{HOST}"'
    )


def _named(types: CTypes, names: Set[str]) -> set[int]:
    """The types whose tag, name or enumerator is among the names."""
    words, starts = types.words, types.starts
    ids = types.ids(_TAGS_AND_TYPEDEFS)
    is_named = map(names.__contains__, types.names.each([words[starts[type_id]] for type_id in ids]))
    found = set(compress(ids, is_named))
    for kind, width in ((ENUM, 2), (ENUM64, 3)):
        for type_id in types.ids({kind}):
            if not names.isdisjoint(types.names.each(types.column(type_id, 0, width=width))):
                found.add(type_id)
    return found


_TAGS_AND_TYPEDEFS = frozenset((FWD, TYPEDEF)) | COMPOSITES | ENUMS


def _meaning(types: CTypes, type_id: int) -> object:
    """The same for all typedefs of one integer; kernels have two or three of `u8`."""
    behind = types.unqualified(type_id)
    if types.kinds[behind] != INT:
        return behind
    return types.size(behind), types.words[types.starts[behind] + 3]


def _reached(types: CTypes, named: Set[int], names: Set[str]) -> set[int]:
    """The composites that a program can get at from the types it names, by members that it names too.

    In `task->mm->owner` no more than `mm` says that struct mm_struct must be complete.
    """
    reached: set[int] = set()
    waiting = list(named)
    while waiting:
        type_id = _behind(types, waiting.pop())
        if type_id in reached or types.kinds[type_id] not in COMPOSITES:
            continue
        reached.add(type_id)
        for offset, member in zip(types.column(type_id, 0, width=3), types.referred(type_id), strict=True):
            if types.names[offset] in names or not offset:
                waiting.append(member)
    return {type_id for type_id in reached if types.name(type_id)}


def _behind(types: CTypes, type_id: int) -> int:
    """The type behind pointers, arrays, typedefs and qualifiers."""
    for _ in range(MAX_CHAIN):
        kind = types.kinds[type_id]
        if kind != PTR and kind != ARRAY and kind != TYPEDEF and kind not in MODIFIERS:
            return type_id
        type_id = types.target(type_id)
    raise types.fail(type_id, f"is at the end of more than {MAX_CHAIN} pointers, arrays and typedefs")
