"""The C header of a kernel's types: against bpftool's text, and against what clang makes of it."""

from __future__ import annotations

import random
import re
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_bpf.btf.c_dump import dump_c
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import Kind
from hatch_bpf.errors import BtfError
from tests.common import c_layout, kernel_btfs, needs, random_types
from tests.common.btf_builder import RawBtf

KERNELS = kernel_btfs.SAMPLE if kernel_btfs.FULL else [*kernel_btfs.SAMPLE, *kernel_btfs.EXAMPLES[3:4]]


def definitions(raw: RawBtf) -> str:
    """The header of hand-made BTF, without what stands around the definitions."""
    return inside(dump_c(Btf(raw.build())))


def inside(header: str) -> str:
    return header.split("#endif\n\n", 1)[1].rsplit("#ifndef BPF_NO", 1)[0].strip()


def bpftool_dump(path: Path) -> str:
    command = [needs.tool("bpftool"), "btf", "dump", "file", str(path), "format", "c"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# --- small BTF, exact text


def test_declarations_wind_around_the_name() -> None:
    raw = RawBtf()
    number = raw.integer()
    text = raw.mod(Kind.CONST, raw.integer("char", 1))
    strings = raw.array(raw.ptr(text), 3)
    handler = raw.ptr(raw.func_proto(0, ("text", raw.ptr(text)), ("", number), ("", 0)))
    getter = raw.ptr(raw.func_proto(handler))
    rows = raw.array(raw.array(number, 2), 3)
    members = [
        ("strings", strings, 0),
        ("fixed", raw.mod(Kind.CONST, raw.ptr(number)), 192),
        ("to_array", raw.ptr(raw.array(number, 4)), 256),
        ("handlers", raw.array(handler, 2), 320),
        ("getter", getter, 448),
        ("rows", rows, 512),
    ]
    raw.struct("s", 88, *members)
    assert definitions(raw) == (
        "struct s {\n"
        "\tconst char *strings[3];\n"
        "\tint * const fixed;\n"
        "\tint (*to_array)[4];\n"
        "\tvoid (*handlers[2])(const char *text, int, ...);\n"
        "\tvoid (* (*getter)(void))(const char *text, int, ...);\n"
        "\tint rows[3][2];\n"
        "};"
    )


def test_what_is_pointed_to_is_declared_and_what_is_held_is_defined_first() -> None:
    raw = RawBtf()
    number, outer, held, other, alias = raw.integer(), 5, 6, 7, 8
    members = [
        ("self", raw.ptr(outer), 0),
        ("other", raw.ptr(other), 64),
        ("alias", raw.ptr(alias), 128),
        ("held", held, 192),
    ]
    assert raw.struct("outer", 32, *members) == outer
    assert raw.struct("held", 8, ("number", number, 0), ("end", number, 32)) == held
    assert raw.struct("other", 4, ("number", number, 0)) == other
    assert raw.typedef("alias_t", other) == alias
    assert definitions(raw) == (
        "struct held {\n\tint number;\n\tint end;\n};\n\n"
        "struct other;\n\n"
        "typedef struct other alias_t;\n\n"
        "struct outer {\n\tstruct outer *self;\n\tstruct other *other;\n\talias_t *alias;\n\tstruct held held;\n};\n\n"
        "struct other {\n\tint number;\n};"
    )


def test_a_name_that_is_taken_gets_a_flavor() -> None:
    raw = RawBtf()
    number = raw.integer()
    raw.struct("s", 4, ("a", number, 0))
    raw.struct("s", 4, ("b", number, 0))
    raw.typedef("ONE", number)
    raw.enum("e", ONE=1)
    assert definitions(raw) == (
        "struct s {\n\tint a;\n};\n\nstruct s___2 {\n\tint b;\n};\n\ntypedef int ONE;\n\nenum e {\n\tONE___2 = 1,\n};"
    )


def test_padding_is_explicit_where_c_would_lay_out_otherwise() -> None:
    raw = RawBtf()
    byte, number = raw.integer("char", 1), raw.integer()
    raw.struct("natural", 8, ("a", byte, 0), ("b", number, 32))
    raw.struct("far", 32, ("a", byte, 0), ("b", number, 64), ("c", byte, 96))
    raw.struct("packed", 5, ("a", byte, 0), ("b", number, 8))
    raw.struct("bits", 12, ("a", number, 0, 3), ("b", number, 7, 2), ("c", byte, 32, 4), ("d", byte, 64))
    assert definitions(raw) == (
        "struct natural {\n\tchar a;\n\tint b;\n};\n\n"
        "struct far {\n\tchar a;\n\tlong: 0;\n\tint b;\n\tchar c;\n\tlong: 64;\n\tlong: 64;\n};\n\n"
        "struct packed {\n\tchar a;\n\tint b;\n} __attribute__((packed));\n\n"
        "struct bits {\n\tint a: 3;\n\tchar: 4;\n\tint b: 2;\n\tint: 23;\n\tchar c: 4;\n\tlong: 0;\n\tchar d;\n};"
    )


def test_enums_of_every_size() -> None:
    raw = RawBtf()
    raw.enum("plain", signed=True, LOW=-1)
    raw.enum("byte", 1, A=1)
    raw.enum("short", 2, B=1)
    raw.enum("word", 8, C=1)
    raw.enum64("wide", D=1 << 40)
    raw.enum64("negative", signed=True, E=-5)
    raw.enum("", F=2)
    raw.enum("later")
    assert definitions(raw) == (
        "enum plain {\n\tLOW = -1,\n};\n\n"
        "enum byte {\n\tA = 1,\n} __attribute__((mode(byte)));\n\n"
        "enum short {\n\tB = 1,\n} __attribute__((mode(HI)));\n\n"
        "enum word {\n\tC = 1,\n} __attribute__((mode(word)));\n\n"
        "enum wide {\n\tD = 1099511627776ULL,\n};\n\n"
        "enum negative {\n\tE = -5LL,\n};\n\n"
        "enum {\n\tF = 2,\n};\n\n"
        "enum later;"
    )


def test_a_member_that_is_only_a_tag_is_written_in_full() -> None:
    raw = RawBtf()
    number = raw.integer()
    tagged = raw.struct("tagged", 4, ("a", number, 0))
    raw.struct("holder", 8, ("", tagged, 0), ("", raw.union("", 4, ("b", number, 0)), 32))
    assert definitions(raw) == (
        "struct tagged {\n\tint a;\n};\n\n"
        "struct holder {\n\tstruct {\n\t\tint a;\n\t};\n\tunion {\n\t\tint b;\n\t};\n};"
    )


def test_the_kernels_va_list_is_written_out() -> None:
    raw = RawBtf()
    number = raw.integer()
    tag = raw.struct("__va_list_tag", 4, ("a", number, 0))
    builtin = raw.typedef("__builtin_va_list", raw.array(tag, 1))
    raw.typedef("va_list", builtin)
    assert definitions(raw) == "struct __va_list_tag {\n\tint a;\n};\n\ntypedef struct __va_list_tag va_list[1];"


def test_type_tags_compile_with_compilers_that_know_none() -> None:
    raw = RawBtf()
    number = raw.integer()
    raw.struct("s", 8, ("a", raw.ptr(raw.mod(Kind.TYPE_TAG, number, "user")), 0))
    text = dump_c(Btf(raw.build()))
    assert '\tint __attribute__((btf_type_tag("user"))) *a;' in text
    assert "#if !__has_attribute(btf_type_tag)\n#define btf_type_tag(value)\n#endif" in text


def test_old_compilers_bitfields_stand_in_their_integers() -> None:
    raw = RawBtf()
    raw.integer()
    raw.struct(
        "s", 4, ("a", raw.integer("unsigned int", 4, bits=3), 0), ("b", raw.integer("int", 4, bits=5, offset=3), 0)
    )
    assert definitions(raw) == "struct s {\n\tunsigned int a: 3;\n\tint b: 5;\n};"


def test_both_byte_orders_give_the_same_text() -> None:
    def fill(raw: RawBtf, number: int) -> RawBtf:
        raw.struct("s", 8, ("a", number, 0, 3), ("b", number, 32))
        raw.enum64("wide", D=1 << 40)
        return raw

    little, big = RawBtf("<"), RawBtf(">")
    texts = [definitions(fill(raw, raw.integer())) for raw in (little, big)]
    assert texts[0] == texts[1]


def test_only_what_is_asked_for_and_what_that_needs() -> None:
    raw = RawBtf()
    number = raw.integer()
    held = raw.struct("held", 4, ("a", number, 0))
    pointed = raw.struct("pointed", 4, ("a", number, 0))
    raw.struct("unused", 4, ("a", number, 0))
    wanted = raw.struct("wanted", 16, ("held", held, 0), ("pointed", raw.ptr(pointed), 64))
    btf = Btf(raw.build())
    assert inside(dump_c(btf, [wanted])) == (
        "struct held {\n\tint a;\n};\n\nstruct pointed;\n\n"
        "struct wanted {\n\tstruct held held;\n\tstruct pointed *pointed;\n};"
    )
    assert inside(dump_c(btf, [])) == ""


# --- C that clang made BTF of

TRICKY = """
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
struct empty {};
struct flexible { u32 count; u16 items[]; };
struct inner { u64 a; u8 b; };
struct tight { u8 a; u32 b; struct inner inner; u16 c; } __attribute__((packed));
struct packed_bits { u32 a : 20; u32 b : 20; u8 c[3]; } __attribute__((packed));
struct holds_packed { u8 a; struct tight tight; u64 b; };
struct aligned { u8 a; u64 b __attribute__((aligned(64))); u8 c; } __attribute__((aligned(128)));
struct mixed { u8 a; u64 b : 60; u16 c : 3; u8 d; u32 : 0; u32 e : 7; u8 f : 1; u64 g : 33; };
struct late_bits { u8 a; u32 : 0; u32 b : 4; u16 : 9; u16 c : 2; };
struct bools { _Bool a : 1; _Bool b : 1; _Bool c; };
struct wide { u8 a; __int128 b; u8 c; };
union choice { u8 a; u64 b : 5; struct { u16 x; u16 y; }; enum { LEFT = 1, RIGHT } side; };
union odd_union { u8 a[5]; u32 b; } __attribute__((packed));
struct holds_union { u8 a; union odd_union b; union choice c; };
typedef struct { int (*call)(struct inner *, u8 [4]); void *(*const table[2])(void); } anonymous_t;
typedef u32 matrix_t[2][3];
enum small { S = 255 } __attribute__((packed));
enum negative { MINUS = -1, PLUS = 0x7fffffff };
struct last { anonymous_t a; matrix_t b; enum small c; enum negative d; volatile const int *const restrict e; };
struct nest { struct { union { struct { u8 a; }; u16 b; }; u32 c : 3, d : 29; } in[3]; struct nest *next, **list; };
"""


@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
def test_tricky_types_come_through_and_back(tmp_path: Path, target: str) -> None:
    kernel = c_layout.compiled(TRICKY, tmp_path, chosen=lambda _: True, target=target)
    types = [type_id for type_id in range(1, len(kernel)) if kernel.name(type_id) != c_layout.EVERY[1]]
    again = c_layout.compiled(dump_c(kernel, types), tmp_path, chosen=lambda _: True, target=target)
    want, got = c_layout.layouts(kernel), c_layout.layouts(again)
    want.pop(c_layout.EVERY)
    got.pop(c_layout.EVERY)
    assert got == want
    assert len(want) == len(re.findall(r"^(?:struct|union|enum|typedef) ", TRICKY, re.MULTILINE))


# --- kernels


@pytest.mark.thorough
@pytest.mark.parametrize("name", KERNELS)
def test_every_size_offset_and_value_is_the_kernels(name: str, tmp_path: Path) -> None:
    btf = Btf(kernel_btfs.read(name))
    program = ['#include "vmlinux.h"', *c_layout.assertions(btf)]
    assert len(program) > 30_000
    c_layout.run_clang("\n".join(program), dump_c(btf), tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize("name", KERNELS)
def test_the_types_are_the_kernels(name: str, tmp_path: Path) -> None:
    """All of them in a full run, a tenth otherwise: clang takes a minute to write the BTF of a whole kernel."""
    btf = Btf(kernel_btfs.read(name))
    compiled = c_layout.compiled(
        dump_c(btf), tmp_path, chosen=lambda key: kernel_btfs.FULL or zlib.crc32(key[1].encode()) % 10 == 0
    )
    want, got = c_layout.layouts(btf), c_layout.layouts(compiled)
    del got[c_layout.EVERY]
    assert len(got) > len(want) / 10
    assert {key: layouts - want[key] for key, layouts in got.items() if not layouts <= want[key]} == {}
    if kernel_btfs.FULL:
        assert {key for key in want if got.get(key) != want[key]} <= {("typedef", "__builtin_va_list")}


@pytest.mark.parametrize("name", KERNELS)
def test_bpftool_writes_the_same_definitions_in_the_same_order(name: str, tmp_path: Path) -> None:
    data = kernel_btfs.read(name)
    (tmp_path / "kernel.btf").write_bytes(data)
    theirs, ours = blocks(bpftool_dump(tmp_path / "kernel.btf")), blocks(dump_c(Btf(data)))
    # bpftool leaves out enums without a name that only variables have
    extra = {block for block in ours if block.startswith("enum {")}.difference(theirs)
    ours = [block for block in ours if block not in extra]
    assert [head(block) for block in ours] == [head(block) for block in theirs]
    differing = [(mine, its) for mine, its in zip(ours, theirs, strict=True) if mine != its]
    assert [pair for pair in differing if not is_better(*pair)] == []
    assert len(theirs) > 8000
    assert len(extra) + len(differing) < 30


def blocks(header: str) -> list[str]:
    """The definitions, without what bpftool 7.1 has not learnt yet: enums that have not 4 bytes; `{}` in one line."""
    text = re.sub(r" __attribute__\(\(mode\(\w+\)\)\)", "", inside(header))
    return re.sub(r"\{\s*\}", "{}", text).split("\n\n")


def head(block: str) -> str:
    """What a definition defines: its tag, or the name of a typedef."""
    if block.startswith("typedef"):
        return "typedef va_list" if "va_list" in block else block.rsplit(" ", 1)[1]
    return block.split("{")[0].strip()


def is_better(ours: str, theirs: str) -> bool:
    """Where the dump differs on purpose."""
    return (
        # a member that is only a tag needs -fms-extensions
        re.search(r"^\t+(?:struct|union) \w+;$", theirs, re.MULTILINE) is not None
        # each compiler has a va_list of its own
        or "va_list" in theirs
        # __int128 has an alignment of 16, which makes padding superfluous
        or re.sub(r"\n\t+long: \d+;", "", ours) == re.sub(r"\n\t+long: \d+;", "", theirs)
    )


# --- BTF that no C program has


def loop_of_typedefs(raw: RawBtf) -> None:
    raw.typedef("a", 2)
    raw.typedef("b", 1)


def loop_of_pointers(raw: RawBtf) -> None:
    raw.ptr(1)


def struct_in_itself(raw: RawBtf) -> None:
    raw.struct("s", 4, ("a", 2, 0))
    raw.array(1, 2)


def anonymous_in_itself(raw: RawBtf) -> None:
    raw.struct("", 4, ("a", 2, 0))
    raw.ptr(1)


def long_chain(raw: RawBtf) -> None:
    for target in range(20_000):
        raw.ptr(target)
    raw.struct("s", 8, ("a", 20_000, 0))


def long_chain_down(raw: RawBtf) -> None:
    for target in range(2, 20_000):
        raw.mod(Kind.CONST, target)
    raw.integer()


def deep_structs(raw: RawBtf) -> None:
    raw.integer()
    for inner in range(1, 5_000):
        raw.struct("", 4, ("a", inner, 0))
    raw.struct("s", 4, ("a", 5_000, 0))


def doubling_prototypes(raw: RawBtf) -> None:
    raw.integer()
    for number in range(40):
        raw.ptr(raw.func_proto(0, ("a", 2 * number + 1), ("b", 2 * number + 1)))
    raw.struct("s", 8, ("a", 81, 0))


def prototypes_without_pointers(raw: RawBtf) -> None:
    raw.struct("s", 8)
    for number in range(1, 60):
        raw.func_proto(number, ("a", number), ("b", number))
    raw.typedef("t", raw.ptr(60))


def doubling_structs(raw: RawBtf) -> None:
    raw.integer()
    for number in range(1, 50):
        raw.struct("", 8, ("a", number, 0), ("b", number, 32))
    raw.struct("s", 8, ("a", 50, 0))


def endless_padding(raw: RawBtf) -> None:
    raw.struct("s", 0xFFFFFFFF)


def id_too_high(raw: RawBtf) -> None:
    raw.struct("s", 8, ("a", 77, 0))


def held_void(raw: RawBtf) -> None:
    raw.struct("s", 8, ("a", 0, 0))


def held_function(raw: RawBtf) -> None:
    raw.func("f", raw.func_proto(0))
    raw.struct("s", 8, ("a", 2, 0))


def code_for_a_name(raw: RawBtf) -> None:
    raw.struct('s { }; #include "/etc/passwd"', 8)


def code_for_a_member(raw: RawBtf) -> None:
    raw.struct("s", 8, ("a; int b", raw.integer(), 0))


def code_for_an_integer(raw: RawBtf) -> None:
    raw.typedef("t", raw.integer("int a;"))


def code_for_a_tag(raw: RawBtf) -> None:
    raw.typedef("t", raw.ptr(raw.mod(Kind.TYPE_TAG, 0, 'a"))) int (*b')))


HOSTILE = [
    loop_of_typedefs, loop_of_pointers, struct_in_itself, anonymous_in_itself, long_chain, long_chain_down,
    deep_structs, doubling_prototypes, prototypes_without_pointers, doubling_structs, endless_padding, id_too_high,
    held_void, held_function, code_for_a_name, code_for_a_member, code_for_an_integer, code_for_a_tag,
]  # fmt: skip


@pytest.mark.parametrize("fill", HOSTILE, ids=lambda fill: fill.__name__)
def test_hostile_btf_is_refused(fill: object) -> None:
    raw = RawBtf()
    assert callable(fill)
    fill(raw)
    with pytest.raises(BtfError):
        dump_c(Btf(raw.build()))


@settings(max_examples=(kernel_btfs.FULL and 5000) or 150, deadline=None)
@given(st.integers(0, 1 << 40), st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 32)), max_size=4))
def test_random_types_give_text_or_btf_error(seed: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray(random_types.make(seed).target)
    for at, value in changes:
        word = 24 + at % max(1, len(data) // 4 - 6) * 4
        data[word : word + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
    try:
        btf = Btf(bytes(data))
        roots = random.Random(seed).choice([None, [1], range(1, len(btf))])
        assert dump_c(btf, roots).endswith("__VMLINUX_H__ */\n")
    except BtfError:
        pass
