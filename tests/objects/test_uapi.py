"""Numbers and names of the UAPI, against the system's <linux/bpf.h>."""

from __future__ import annotations

import re
from pathlib import Path

from hatch_bpf.objects import uapi
from tests.common import needs

_HEADER = Path("/usr/include/linux/bpf.h")


def _header() -> str:
    if not _HEADER.exists():
        needs.missing("<linux/bpf.h> is not installed")
    return _HEADER.read_text(encoding="utf-8")


def test_helpers() -> None:
    mapper = _header().partition("_BPF_FUNC_MAPPER(FN")[2].partition("\n\n")[0]
    # newer headers say the number too, which is the place in the list
    names = re.findall(r"FN\((\w+)", mapper)
    assert len(names) > 190
    assert [uapi.helper(name) for name in names] == list(range(len(names)))
    assert [uapi.helper_enumerator(number) for number in range(1, len(names))] == [f"BPF_FUNC_{n}" for n in names[1:]]
    assert uapi.helpers("map_lookup_elem tail_call") == {names.index("map_lookup_elem"), names.index("tail_call")}
    assert uapi.helper_name(names.index("ringbuf_output")) == "bpf_ringbuf_output"


def test_map_types() -> None:
    enum = _header().partition("enum bpf_map_type {")[2].partition("}")[0]
    # newer headers have second names for some numbers, and a last one that counts them
    lines = re.findall(r"^\s*BPF_MAP_TYPE_(\w+)(?: = BPF_MAP_TYPE_\w+)?,", enum, re.MULTILINE)
    names = [line.removesuffix("_DEPRECATED") for line in lines]
    names = list(dict.fromkeys(names))
    assert len(names) > 30
    assert [uapi.MapType[name] for name in names] == list(range(len(names)))
    assert uapi.map_type_name(names.index("RINGBUF")) == "BPF_MAP_TYPE_RINGBUF"


def test_map_flags() -> None:
    bits = re.findall(r"BPF_F_(\w+)\s*=\s*\(1U << (\d+)\)", _header())
    wanted = {name: 1 << int(bit) for name, bit in bits if name in uapi.MapFlag.__members__}
    assert len(wanted) >= 5
    assert {name: uapi.MapFlag[name] for name in wanted} == wanted


def test_what_is_newer_than_the_tables_has_no_better_name_than_its_number() -> None:
    assert uapi.helper_name(100_000) == "helper 100000"
    assert uapi.helper_enumerator(100_000) == ""
    assert uapi.map_type_name(100_000) == "map type 100000"
