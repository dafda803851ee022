""".BTF.ext: real objects against what llvm and the ELF say, and what is not .BTF.ext."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_bpf.btf.ext import CoreRelo, CoreReloKind, LineInfo, LineTable, read_btf_ext
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.minimize import minimize
from hatch_bpf.core_relo.resolve import Matcher
from hatch_bpf.errors import BtfError, ObjectError
from hatch_bpf.objects.model import read_object
from tests.common import kernel_btfs, objects
from tests.common.btf_builder import EXIT, RawBtf, btf_ext, elf_object
from tests.common.c_programs import compile_bpf

_SOURCE = """
struct core thing { int a; int b; };
SEC("socket") int first(struct thing *t) {
    return t->b;
}
SEC("xdp") int second(struct thing *t) {
    return bpf_core_field_exists(t->a);
}
"""


def _all(lines: LineTable) -> list[LineInfo]:
    return [lines[number] for number in range(len(lines))]


def test_a_compiled_program() -> None:
    model = read_object(compile_bpf(_SOURCE), path="program.bpf.o")
    ext = model.ext
    lines = [line for section in ("socket", "xdp") for line in _all(ext.lines[section])]
    assert {"    return t->b;", "    return bpf_core_field_exists(t->a);"} <= {line.text for line in lines}
    assert all(line.line and line.insn_off % 8 == 0 for line in lines)
    assert [(section, relo.access_str, relo.kind) for section, relo in model.core_relos] == [
        ("socket", "0:1", CoreReloKind.FIELD_BYTE_OFFSET),
        ("xdp", "0:0", CoreReloKind.FIELD_EXISTS),
    ]


def test_the_records_of_real_objects_stand_on_instructions() -> None:
    assert sum(len(model.core_relos) for model in objects.models().values()) > 400
    for program, model in objects.models().items():
        for section, relo in model.core_relos:
            assert relo.insn_off % 8 == 0
            assert model.function_at(section, relo.insn_off) is not None, program
            assert model.ext.lines[section].at(relo.insn_off) is not None, program


def _ext(order: str = "<", *, header: int = 32) -> tuple[RawBtf, bytes]:
    btf = RawBtf(order)
    section, file, text, access = (btf.string(s) for s in ("socket", "a.c", "return 0;", "0"))
    func = struct.pack(order + "III2I", 8, section, 1, 0, 1)
    line = struct.pack(order + "III4I", 16, section, 1, 0, file, text, 12 << 10 | 5)
    relo = struct.pack(order + "III5I", 20, section, 1, 8, 1, access, 8, 0xDEADBEEF)  # a record longer than is known
    words = [0, len(func), len(func), len(line), len(func) + len(line), len(relo)][: (header - 8) // 4]
    head = struct.pack(f"{order}HBBI{len(words)}I", 0xEB9F, 1, 0, header, *words)
    return btf, head + func + line + relo


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_every_table(order: str) -> None:
    btf, data = _ext(order)
    ext = read_btf_ext(data, Btf(btf.build()))
    assert {section: _all(lines) for section, lines in ext.lines.items()} == {
        "socket": [LineInfo(0, "a.c", "return 0;", 12, 5)]
    }
    assert ext.core_relos == {"socket": (CoreRelo(8, 1, "0", CoreReloKind.TYPE_EXISTS),)}


def test_the_short_header_has_no_relocations() -> None:
    btf, data = _ext(header=24)
    ext = read_btf_ext(data, Btf(btf.build()))
    assert ext.lines
    assert not ext.core_relos


def test_records_of_one_section_in_two_pieces_are_joined() -> None:
    btf = RawBtf()
    piece = struct.pack("<II4I", btf.string("socket"), 1, 0, 1, btf.string("0"), 8)
    table = struct.pack("<I", 16) + piece * 2
    data = struct.pack("<HBBI6I", 0xEB9F, 1, 0, 32, 0, 0, 0, 0, 0, len(table)) + table
    assert len(read_btf_ext(data, Btf(btf.build())).core_relos["socket"]) == 2


def _damaged(position: int, value: int) -> bytes:
    _, data = _ext()
    changed = bytearray(data)
    struct.pack_into("<I", changed, position, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x9f\xeb", "2 bytes cannot be .BTF.ext"),
        (_damaged(0, 0x01EB9E), "starts with 9e eb 01 00"),
        (_damaged(4, 8), "a header of 8 bytes, which does not fit"),
        (_damaged(4, 4000), "a header of 4000 bytes, which does not fit"),
        (_damaged(20, 4000), "a table ends at byte 4052"),
        (_damaged(52, 4), "records of 4 bytes; at least 16 are needed"),
        (_damaged(52, 17), "records of 17 bytes"),
        (_damaged(20, 8), "cut off inside a section's header"),
        (_damaged(60, 1000), "1000 records of 16 bytes do not fit"),
        (_damaged(56, 4000), "string offset 4000 is beyond"),
        (_damaged(104, 13), "CO-RE relocation kind 13 is not known"),
    ],
)
def test_it_is_refused(data: bytes, message: str) -> None:
    btf, _ = _ext()
    with pytest.raises(BtfError, match=message):
        read_btf_ext(data, Btf(btf.build(), source="object"))


@pytest.mark.parametrize("position", [68, 72])
def test_a_source_line_without_a_text_is_refused_when_lines_are_asked_for(position: int) -> None:
    btf, _ = _ext()
    lines = read_btf_ext(_damaged(position, 4000), Btf(btf.build(), source="object")).lines["socket"]
    with pytest.raises(BtfError, match="object: the file or text of a source line is beyond"):
        lines.at(0)


def _small_object() -> bytes:
    local = RawBtf()
    number = local.integer()
    inner = local.struct("inner", 8, ("x", number, 0), ("y", local.array(number, 2), 32))
    thing = local.struct("thing", 16, ("a", number, 0), ("", inner, 32))
    enum = local.enum("numbers", ONE=1, TWO=2)
    relos = [
        (0, thing, "0:1:1:1", CoreReloKind.FIELD_BYTE_OFFSET),
        (8, thing, "0", CoreReloKind.TYPE_MATCHES),
        (16, enum, "1", CoreReloKind.ENUMVAL_VALUE),
    ]
    ext = btf_ext(local, {"socket": relos})
    return elf_object(local.build(), ext, {"socket": EXIT * 4})


_OBJECT = _small_object()
_CHANGES = st.lists(st.tuples(st.integers(0, len(_OBJECT) - 1), st.integers(0, 255)), min_size=1, max_size=6)


@settings(max_examples=5000 if kernel_btfs.FULL else 400, deadline=None)
@given(_CHANGES, st.booleans())
def test_a_damaged_object_ends_in_object_error_or_none(changes: list[tuple[int, int]], is_short: bool) -> None:
    """Whatever can still be read is resolved and minimized as well, against the object's own types."""
    data = bytearray(_OBJECT)
    for position, value in changes:
        data[position] = value
    if is_short:
        del data[changes[0][0] :]
    try:
        model = read_object(bytes(data), path="damaged.bpf.o")
    except ObjectError:
        return
    try:
        list(Matcher(model.btf).resolve_all(model.btf, [relo for _, relo in model.core_relos]))
        minimize([model], model.btf)
    except BtfError:
        pass


def test_the_undamaged_object_is_fine() -> None:
    model = read_object(_OBJECT, path="fine.bpf.o")
    assert len(model.core_relos) == 3
    assert len(Btf(minimize([model], model.btf))) == 6
