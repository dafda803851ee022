"""Reading BPF objects: what clang put in is what the model says, and what is no object is refused."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from hatch_bpf import arch
from hatch_bpf.btf import types as t
from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.model import MapDef, ObjectModel, read_object
from hatch_bpf.objects.names import object_name
from tests.common import needs
from tests.common.btf_builder import EXIT, RawBtf, btf_ext, elf_object
from tests.common.skeleton_package import BPF, compile_bpf
from tests.compiler.test_clang import compile_text

SOURCE = """\
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

struct key { __u32 a; __u16 b; };
struct task_struct { int pid; } __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 100);
	__uint(map_flags, BPF_F_NO_COMMON_LRU);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct key);
	__type(value, __u64);
} counts SEC(".maps");

struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u32); };
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, struct inner);
} outer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__array(values, int (void *));
} tails SEC(".maps");

extern int LINUX_KERNEL_VERSION __kconfig;
extern bool CONFIG_BPF __kconfig __weak;
extern const int runqueues __ksym __weak;

const volatile __u32 limit = 7;
__u64 first = 5, second = 6;
static __u32 hidden = 9;
__u8 zeroed[300];
__u32 own SEC(".data.own") = 3;

static __noinline int twice(int x) { return x * (int)bpf_get_prandom_u32(); }

SEC("?raw_tp/sched_switch")
int optional(void *ctx)
{
	return limit;
}

SEC("tp_btf/sched_switch")
int BTF(unsigned long long *ctx)
{
	struct task_struct *task = (void *)ctx[1];
	struct key key = {};
	__u64 one = 1;

	if (LINUX_KERNEL_VERSION > 5 && CONFIG_BPF && &runqueues)
		bpf_map_update_elem(&counts, &key, &one, 0);
	hidden += task->pid;
	zeroed[0] = first + second + own;
	return twice(hidden);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ObjectModel:
    return read_object(compile_text(tmp_path_factory.mktemp("object"), SOURCE).data, path="a/whole-story.bpf.o")


PADDED = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

union padded { char first; long whole; };
union padded zeros = {};
long number %s;

SEC("raw_tp/sys_enter") int count(void *ctx) { zeros.first++; return number++; }

char LICENSE[] SEC("license") = "GPL";
"""
"""clang lists `zeros` under .data, and puts it into .bss."""


def test_a_variable_is_where_its_symbol_is(tmp_path: Path) -> None:
    model = read_object(compile_text(tmp_path, PADDED % "= 5").data, path="padded.bpf.o")
    places = {section.name: [variable.name for variable in section.variables] for section in model.data_sections}
    assert places == {".bss": ["zeros"], ".data": ["number"]}


def test_an_object_that_libbpf_cannot_open_for_it_is_refused(tmp_path: Path) -> None:
    data = compile_text(tmp_path, PADDED % "").data
    try:
        read_object(data, path="padded.bpf.o")
    except ObjectError as error:
        message = str(error)
    else:
        pytest.skip("this clang lists the variable where it is")
    assert "BTF says that zeros is in .data, but the object has no such section" in message
    assert "zeros is in .bss: declare it without an initializer" in message
    with pytest.raises(AssertionError, match="libbpf cannot open the object"):
        list(needs.libbpf().load_each(data))
    without = PADDED.replace("zeros = {}", "zeros") % ""
    read_object(compile_text(tmp_path / "without", without).data, path="padded.bpf.o")


def test_programs_and_subprograms(model: ObjectModel) -> None:
    assert [(p.name, p.section, p.section_def, p.autoload) for p in model.programs] == [
        ("optional", "?raw_tp/sched_switch", "raw_tp/sched_switch", False),
        ("BTF", "tp_btf/sched_switch", "tp_btf/sched_switch", True),
    ]
    assert [(p.name, p.section) for p in model.subprograms] == [("twice", ".text")]
    assert all(len(f.insns) % 8 == 0 and f.insns for f in model.functions)
    assert (model.name, model.license, model.endian) == ("whole_story", "Dual BSD/GPL", "little")


def test_maps(model: ObjectModel) -> None:
    counts, outer, tails = model.maps
    assert counts == MapDef(
        "counts", type=9, key_size=8, value_size=8, max_entries=100, map_flags=2, pinning=1,
        key_type_id=counts.key_type_id, value_type_id=counts.value_type_id,
    )  # fmt: skip
    assert model.btf.name(counts.key_type_id) == "key"
    assert model.btf.name(counts.value_type_id) == "__u64"
    assert outer.inner is not None
    assert (outer.type, outer.value_size, outer.inner.type, outer.inner.max_entries) == (13, 4, 2, 2)
    assert (tails.type, tails.value_size, tails.inner) == (3, 4, None)


def test_globals(model: ObjectModel) -> None:
    sections = {section.name: section for section in model.data_sections}
    assert set(sections) == {".data", ".rodata", ".bss", ".data.own"}
    values = {}
    for section in sections.values():
        for variable in section.variables:
            raw = section.data[variable.offset : variable.offset + variable.size]
            values[variable.name] = (section.name, int.from_bytes(raw, "little"), t.Linkage(variable.linkage))
    assert values == {
        "first": (".data", 5, t.Linkage.GLOBAL),
        "second": (".data", 6, t.Linkage.GLOBAL),
        "hidden": (".data", 9, t.Linkage.STATIC),
        "limit": (".rodata", 7, t.Linkage.GLOBAL),
        "zeroed": (".bss", 0, t.Linkage.GLOBAL),
        "own": (".data.own", 3, t.Linkage.GLOBAL),
    }
    assert len(sections[".bss"].data) == 300


def test_externs(model: ObjectModel) -> None:
    assert {(extern.name, extern.weak) for extern in model.kconfig} == {
        ("LINUX_KERNEL_VERSION", False),
        ("CONFIG_BPF", True),
    }
    assert [(extern.name, extern.weak) for extern in model.ksyms] == [("runqueues", True)]


def test_an_extern_may_have_a_name_that_is_no_text(model: ObjectModel) -> None:
    spoiled = model.elf.replace(b"CONFIG_BPF\0", b"CONFIG_\xffPF\0")
    names = {extern.name for extern in read_object(spoiled, path="spoiled.bpf.o").kconfig}
    assert names == {"LINUX_KERNEL_VERSION", "CONFIG_\udcffPF"}


def test_relocations_and_lines(model: ObjectModel) -> None:
    referred = {r.symbol for r in model.relocations if r.section == "tp_btf/sched_switch"}
    assert {"counts", "LINUX_KERNEL_VERSION", "CONFIG_BPF", "runqueues", "first", ".text"} <= referred
    ((section, relo),) = model.core_relos
    function, line = model.function_at(section, relo.insn_off), model.ext.lines[section].at(relo.insn_off)
    assert function is not None
    assert line is not None
    assert (function.name, line.text.strip()) == ("BTF", "hidden += task->pid;")
    assert model.function_at(section, 1 << 20) is None


def test_big_endian(tmp_path: Path) -> None:
    data = compile_text(tmp_path, SOURCE, arch=arch.ARCHES["s390x"]).data
    big = read_object(data, path="x.bpf.o")
    assert (big.endian, big.btf.endian) == ("big", "big")
    assert [m.max_entries for m in big.maps] == [100, 4, 1]
    assert [relo.access_str for _, relo in big.core_relos] == ["0:0"]


@pytest.mark.parametrize(
    ("file_name", "name"), [("a.bpf.o", "a"), ("x/http-conn.bpf.o", "http_conn"), ("ü.o", "_"), ("9.o", "9")]
)
def test_names_are_libbpfs(file_name: str, name: str) -> None:
    assert object_name(file_name) == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: b"", "not an ELF file"),
        (lambda _: b"\x7fELF" + bytes(60), "not an ELF file|not a BPF object"),
        (
            lambda _: b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHI", 1, 247, 1) + bytes(28),
            "this one is 32-bit",
        ),
        (lambda data: data[:18] + struct.pack("<H", 62) + data[20:], "its ELF machine is EM_X86_64, not EM_BPF"),
        (
            lambda data: data.replace(b".BTF\0", b".XXX\0"),
            r"has no \.BTF section: it holds no program, map or global, or was compiled without -g .clang",
        ),
        (lambda data: data.replace(b"\x9f\xeb\x01\x00", b"\x9e\xeb\x01\x00"), "not BTF: it starts with 9e eb"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    data = compile_text(tmp_path, SOURCE).data
    with pytest.raises(ObjectError, match=message) as caught:
        read_object(change(data), path="bad.bpf.o")
    assert str(caught.value).startswith("bad.bpf.o: ")


def with_section(data: bytes, name: str, **fields: int) -> bytes:
    """An object with fields of a section's header changed."""
    at = {"sh_type": ("I", 4), "sh_flags": ("Q", 8), "sh_offset": ("Q", 24), "sh_size": ("Q", 32)}
    at |= {"sh_link": ("I", 40), "sh_info": ("I", 44)}
    index = ELFFile(io.BytesIO(data)).get_section_index(name)
    assert index is not None
    changed = bytearray(data)
    for field, value in fields.items():
        form, offset = at[field]
        (headers,) = struct.unpack_from("<Q", data, 0x28)
        struct.pack_into(f"<{form}", changed, headers + 64 * index + offset, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        (".BTF", {"sh_flags": 0x800}, "section .BTF is compressed"),
        (".BTF", {"sh_type": 8, "sh_size": 1 << 40}, "section .BTF is not in the file"),
        ("license", {"sh_type": 8, "sh_size": 1 << 40}, "section license is not in the file"),
        ("xdp", {"sh_type": 8}, "section xdp is not in the file"),
        (".symtab", {"sh_size": 24 << 30}, "its sections claim to have"),
        (".BTF.ext", {"sh_offset": 0, "sh_size": 1 << 62}, "its sections claim to have"),
    ],
)
def test_a_file_is_not_larger_than_it_is(section: str, fields: dict[str, int], message: str) -> None:
    """Neither time nor memory is spent on what a section only claims to hold."""
    btf = RawBtf()
    btf.integer()
    data = elf_object(btf.build(), btf_ext(btf, {}), {"xdp": EXIT})
    assert read_object(data, path="good.bpf.o").programs
    with pytest.raises(ObjectError, match=message):
        read_object(with_section(data, section, **fields), path="bad.bpf.o")


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        (".relraw_tp/sched_switch", {"sh_link": 99}, "relocations refer to section 99, which isn't there"),
        (".relraw_tp/sched_switch", {"sh_info": 99}, "relocations refer to section 99, which isn't there"),
        (".relraw_tp/sched_switch", {"sh_link": 2}, "relocations use section .* as a symbol table, and it is none"),
        (".bss", {"sh_size": 1 << 31}, r"\.bss has 2147483648 bytes; it becomes one map value, of less than 2 GiB"),
    ],
)
def test_sections_that_do_not_fit_together(tmp_path: Path, section: str, fields: dict[str, int], message: str) -> None:
    data = compile_text(tmp_path, SOURCE.replace("?raw_tp", "raw_tp")).data
    assert read_object(data, path="good.bpf.o").programs
    with pytest.raises(ObjectError, match=message):
        read_object(with_section(data, section, **fields), path="bad.bpf.o")


def test_a_function_is_in_a_section_that_is_there() -> None:
    btf = RawBtf()
    btf.integer()
    data = bytearray(elf_object(btf.build(), None, {"xdp": EXIT}))
    table = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
    assert table is not None
    struct.pack_into("<H", data, table["sh_offset"] + 24 + 6, 99)
    with pytest.raises(ObjectError, match="function prog_0 is in section 99, which isn't there"):
        read_object(bytes(data), path="bad.bpf.o")


@pytest.mark.parametrize("section", [".maps", ".data"])
def test_what_a_section_of_variables_holds_that_is_no_variable(section: str) -> None:
    btf = RawBtf()
    btf.datasec(section, 4, (btf.integer(), 0, 4))
    data = elf_object(btf.build(), None, {"xdp": EXIT})
    if section == ".maps":
        with pytest.raises(ObjectError, match=r"\.maps holds 'int', which is not a variable"):
            read_object(data, path="bad.bpf.o")
    else:
        assert read_object(data, path="bad.bpf.o").data_sections == ()


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("int m", "map m is not declared as a struct"),
        ("struct { int type; } m", r"map m: type is not declared with __uint\(\)"),
        ("struct { __uint(max_entries, 1); } m", "map m has no type, and libbpf wants one"),
        ("extern struct { __uint(type, 1); } m", "map m is extern: link the source that defines it"),
        ("static struct { __uint(type, 1); } m __attribute__((used))", "map m is static, and libbpf opens no object"),
        ("struct { __uint(type, 1); int key; } m", r"map m: key is not declared with __type\(\)"),
        (
            "struct { __uint(type, 1); __uint(colour, 3); } m",
            "map m has an attribute 'colour' that libbpf does not know",
        ),
        (
            "struct { __uint(type, 12); __array(values, int); } m",
            "`values` is neither an array of maps nor one of prog",
        ),
    ],
)
def test_maps_that_libbpf_refuses_too(tmp_path: Path, declaration: str, message: str) -> None:
    text = f"""#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
{declaration} SEC(".maps");
SEC("socket") int program(void *ctx) {{ return (long)&m; }}
"""
    data = compile_text(tmp_path, text).data
    with pytest.raises(ObjectError, match=message):
        read_object(data, path="bad.bpf.o")
    with pytest.raises(AssertionError, match="libbpf cannot open the object"):
        next(needs.libbpf().load_each(data))


def test_a_long_number_of_a_map_is_an_enumerator(tmp_path: Path) -> None:
    """__ulong() of newer bpf_helpers.h, as for an arena's address."""
    text = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, int);
         enum { unique = 0x12345678 } map_extra; } m SEC(".maps");
SEC("socket") int program(void *ctx) { return 0; }
"""
    (found,) = read_object(compile_text(tmp_path, text).data, path="program.bpf.o").maps
    assert found.map_extra == 0x12345678


def test_every_cut_is_refused_or_read(tmp_path: Path) -> None:
    """A file that ends early must not end in anything but an ObjectError."""
    data = compile_text(tmp_path, SOURCE).data
    refused = 0
    for length in range(0, len(data), 97):
        try:
            read_object(data[:length], path="cut.bpf.o")
        except ObjectError:
            refused += 1
    assert refused == len(range(0, len(data), 97))


def test_what_maps_begin_with(tmp_path: Path) -> None:
    model = read_object(compile_bpf(BPF / "tails.bpf.c", tmp_path).read_bytes(), path="tails.bpf.o")
    held = {item.name: item.holds for item in model.maps if item.holds}
    assert held == {"outer": ("inner",), "rings": ("ring",), "jumps": ("tail",)}


def test_struct_ops_maps_are_named(tmp_path: Path) -> None:
    model = read_object(compile_bpf(BPF / "struct_ops_link.bpf.c", tmp_path).read_bytes(), path="struct_ops_link.bpf.o")
    assert model.struct_ops == ("counting", "counting_too")
