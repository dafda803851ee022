"""What the runtime does on kernels that are older than any that the lab boots, with a stand-in for libbpf."""

from __future__ import annotations

from typing import Any

import pytest

from hatch_bpf.runtime import errors
from hatch_bpf.runtime import globals as sections
from hatch_bpf.runtime.types import CStruct


class _NoMap:
    """libbpf where the kernel has no global variables."""

    def __init__(self, *, fd: int, autocreate: bool | None) -> None:
        self._fd, self._autocreate = fd, autocreate

    def has(self, _name: str) -> bool:
        return self._autocreate is not None

    def bpf_map__autocreate(self, _pointer: int) -> bool | None:
        return self._autocreate

    def bpf_map__fd(self, _pointer: int) -> int:
        return self._fd


@pytest.mark.parametrize(("fd", "autocreate"), [(-1, None), (-1, True), (7, False)])
def test_a_section_without_a_map_is_missing(fd: int, autocreate: bool | None) -> None:
    """Before Linux 5.2 libbpf makes no map: it has no descriptor, or from 1.4 on autocreate off.

    The stand-in is faithful in that these answers are all that the runtime asks for; any other call would fail here.
    """
    libbpf: Any = _NoMap(fd=fd, autocreate=autocreate)
    section, part = sections.live(libbpf, 0, CStruct, name=".bss", writable=True)
    assert part is None
    with pytest.raises(errors.UnknownNameError, match=r"\.bss is not on this kernel.*Linux 5\.2"):
        _ = section.counter
    with pytest.raises(errors.UnknownNameError, match=r"\.bss is not on this kernel"):
        section.counter = 1
