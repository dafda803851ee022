"""Programs put together with their subprograms, against how libbpf does it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.insns import decode
from hatch_bpf.objects.linked_program import Linker, Reference, RefersTo
from hatch_bpf.objects.model import ObjectModel, read_object
from tests.common import c_programs, needs, objects
from tests.common.btf_builder import RawBtf, elf_object

SOURCE = """
extern int LINUX_KERNEL_VERSION SEC(".kconfig");
extern void bpf_some_kfunc(void) __attribute__((weak)) SEC(".ksyms");
struct { int (*type)[2]; int (*max_entries)[1]; int *key; int *value; } counts SEC(".maps");
const volatile int first = 1, second = 2;
static __attribute__((noinline)) long deep(long x) { return ((long (*)(long))7)(x) + second; }
static __attribute__((noinline)) long shallow(long x) { return deep(x) + deep(x + 1); }
static long callback(void) { return 5; }
static long unused(void) { return 6; }

SEC("socket") int calls(void *ctx) {
	bpf_some_kfunc();
	return shallow((long)ctx) + LINUX_KERNEL_VERSION;
}
SEC("socket") int passes(void *ctx) {
	((void *(*)(void *, void *))1)(&counts, &(int){0});
	return ((long (*)(int, void *, void *, long))181)(3, callback, 0, 0);
}
"""


@pytest.fixture(scope="module")
def model() -> ObjectModel:
    return c_programs.model(SOURCE)


def test_calls_bring_in_what_they_reach_and_nothing_else(model: ObjectModel) -> None:
    linked = Linker(model).link(model.programs[0])
    assert [function.name for function in linked.functions] == ["calls", "shallow", "deep"]
    assert list(linked.calls.values()) == [1, 2, 2]
    assert list(linked.kfunc_calls.values()) == ["bpf_some_kfunc"]
    assert list(linked.helper_calls.values()) == [7]
    references = list(linked.references.values())
    assert Reference(RefersTo.KCONFIG, "LINUX_KERNEL_VERSION") in references
    second = next(v for section in model.data_sections for v in section.variables if v.name == "second")
    assert Reference(RefersTo.DATA, ".rodata", second.offset) in references


def test_an_address_brings_in_its_function(model: ObjectModel) -> None:
    linked = Linker(model).link(model.programs[1])
    assert [function.name for function in linked.functions] == ["passes", "callback"]
    assert list(linked.addresses.values()) == [1]
    assert Reference(RefersTo.MAP, "counts") in linked.references.values()


def test_a_slot_has_its_place_in_the_object(model: ObjectModel) -> None:
    linked = Linker(model).link(model.programs[0])
    for slot, insn in enumerate(linked.insns):
        section, offset = linked.origin(slot)
        function = model.function_at(section, offset)
        assert function is not None
        assert decode(function.insns)[(offset - function.offset) // 8] == insn


def test_relocations_of_a_program_and_of_its_subprograms() -> None:
    obj = c_programs.model("""
struct core thing { int a, b; };
static __attribute__((noinline)) int second(struct thing *t) { return t->b; }
SEC("xdp") int other(struct thing *t) { return t->b; }
SEC("socket") int first(struct thing *t) { return t->a + second(t); }
""")
    program = next(program for program in obj.programs if program.name == "first")
    linked = Linker(obj).link(program)
    records = [obj.core_relos[index] for _, index in linked.core_relos]
    assert {(section, relo.access_str) for section, relo in records} == {("socket", "0:0"), (".text", "0:1")}
    assert [linked.origin(slot) for slot, _ in linked.core_relos] == [(s, relo.insn_off) for s, relo in records]


def test_as_long_as_libbpf_makes_them() -> None:
    needs.root_bpf()
    libbpf = needs.libbpf()
    with_subprograms = 0
    for obj in objects.models().values():
        if not obj.subprograms:
            continue
        by_name = {program.name: program for program in obj.programs}
        for loaded in libbpf.load_each(obj.elf):
            # libbpf has put the program together before the kernel takes or refuses it, unless a map fails first
            if loaded.error and "BPF program load failed" not in loaded.log:
                continue
            linked = Linker(obj).link(by_name[loaded.program])
            assert len(linked.insns) == loaded.insns, (obj.path, loaded.program)
            with_subprograms += len(linked.functions) > 1
    assert with_subprograms > 20


def _with_insn(model: ObjectModel, slot: int, insn: bytes) -> ObjectModel:
    program = model.programs[1]
    insns = program.insns[: 8 * slot] + insn + program.insns[8 * slot + 8 :]
    return replace(model, programs=(replace(program, insns=insns),), relocations=())


@pytest.mark.parametrize(
    ("insn", "message"),
    [
        (b"\x05\x00\x00\x70\x00\x00\x00\x00", "jumps to instruction 28673, which is outside of the function"),
        (b"\x05\x00\xf0\xff\x00\x00\x00\x00", "jumps to instruction -15, which is outside"),
        (b"\xbf\x1c\x00\x00\x00\x00\x00\x00", "names register 12; the last is r10"),
        (b"\x85\x10\x00\x00\x00\x01\x00\x00", "where no function begins"),
    ],
)
def test_what_no_compiler_makes_is_refused(model: ObjectModel, insn: bytes, message: str) -> None:
    broken = _with_insn(model, 0, insn)
    with pytest.raises(ObjectError) as raised:
        Linker(broken).link(broken.programs[0])
    assert message in str(raised.value)
    assert "passes" in str(raised.value)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (".jumptables", "has a jump table, .* compile with -fno-jump-tables"),
        ("mydata", "refers to section mydata, of which libbpf makes nothing: globals belong into .data, "),
        (
            "maps",
            'cannot be loaded: its section maps has definitions as they were before libbpf 1.0; .*SEC\\(".maps"\\)',
        ),
    ],
)
def test_a_section_that_libbpf_makes_nothing_of(section: str, told: str) -> None:
    obj = c_programs.model(f"""
int where SEC("{section}") = 1;
SEC("socket") int refers(void *ctx) {{ return *(volatile int *)&where; }}
""")
    with pytest.raises(ObjectError, match=told):
        Linker(obj).link(obj.programs[0])


def test_an_address_may_be_one_that_needs_no_relocation() -> None:
    """Of a static subprogram in the same section, as far from the instruction as a call of it would be."""
    take_address = b"\x18\x42\x00\x00\x02\x00\x00\x00" + bytes(8)
    leave = b"\x95" + bytes(7)
    btf = RawBtf()
    btf.integer()
    obj = read_object(elf_object(btf.build(), None, {"socket": take_address + 3 * leave}), path="program.bpf.o")
    (whole,) = obj.programs
    main = replace(whole, insns=whole.insns[:24])
    callback = replace(whole, name="callback", offset=24, insns=whole.insns[24:])
    linked = Linker(replace(obj, programs=(main,), subprograms=(callback,))).link(main)
    assert [function.name for function in linked.functions] == [main.name, "callback"]
    assert linked.addresses == {0: 1}
    assert linked.starts == (0, 3)


def test_a_program_without_subprograms_is_itself(model: ObjectModel) -> None:
    alone = replace(model.programs[1], insns=model.programs[1].insns[-8:])
    linked = Linker(replace(model, programs=(alone,), relocations=())).link(alone)
    assert linked.insns == decode(alone.insns)
