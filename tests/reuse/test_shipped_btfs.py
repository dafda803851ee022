"""A kernels.btfs that came with an sdist: what a hostile one may cost."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable

import pytest

from hatch_bpf.errors import HatchBpfError
from hatch_bpf.reuse import shipped
from hatch_bpf.runtime.errors import PackageError
from hatch_bpf.runtime.host.embedded import HEADER, MAGIC
from hatch_bpf.support.budget import SECONDS, Budget


def forged(
    kernels: bytes, *, strings: bytes = b"\0a\0", types: Iterable[int] = (0, 1 << 24, 4, 0), listed: Iterable[int]
) -> bytes:
    """One type, any kernels, and BTFs that list it."""
    numbers = list(listed)
    chosen = range(kernels.count(b"\n"))
    words = (struct.pack(f"<{len(part)}I", *part) for part in (chosen, [1], list(types), numbers))
    sections = (kernels, strings, bytes(8 * len(numbers)), *words)
    return HEADER.pack(MAGIC, *map(len, sections)) + b"".join(sections)


def struct_of(members: int, *, step: int) -> list[int]:
    """A struct, the names of whose members begin `step` bytes apart."""
    return [0, 4 << 24 | members, 4, *(word for number in range(members) for word in (1 + number * step, 0, 0))]


HOSTILE = {
    "kernels": (forged(b"d/1/x86_64\n" + b"6\n" * 4_000_000, listed=[0, 1, 0]), "more than 32,768 kernels"),
    "BTFs": (
        forged(b"d/1/x86_64" + b"".join(b"\n%d" % number for number in range(30_000)), listed=[0, 1, 0] * 30_000),
        "more than 4,096 BTFs in a package, where 57 kernels",
    ),
    "names that are tails of one": (
        forged(
            b"d/1/x86_64\n6.1",
            strings=b"\0" + b"a" * (3 << 20) + b"\0",
            types=struct_of(500_000, step=3),
            listed=[0, 1, 0],
        ),
        "has more names than there are",
    ),
    "a type that is listed often": (
        forged(b"d/1/x86_64\n6.1", types=struct_of(300_000, step=0), listed=[0, 100_000, *[0] * 100_000]),
        "lists two types of one class",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_soon(kind: str) -> None:
    data, message = HOSTILE[kind]
    start = time.process_time()
    with pytest.raises((HatchBpfError, PackageError), match=message):
        shipped._embedded(data, Budget("build.json"))
    assert time.process_time() - start < SECONDS
