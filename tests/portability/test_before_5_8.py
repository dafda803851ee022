"""Maps, global variables and helpers on Linux before 5.8 or so. What is expected is what those kernels' sources say."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import Kernel, host
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict
from tests.common import c_programs, kernel_btfs, needs
from tests.common.btf_builder import RawBtf
from tests.common.on_kernels import KernelTypes, check_on

SIGNS = {
    (4, 17): "bpf_stack_build_id.build_id",
    (5, 0): "bpf_msg_pop_data()",
    (5, 2): "bpf_map_ops.map_direct_value_addr",
    (5, 4): "bpf_sk_storage_clone()",
    (5, 8): "bpf_ringbuf.mask bpf_devmap_val.ifindex",
    (5, 9): "bpf_cpumap_val.qsize",
}
"""What came with a Linux: members of structs, or a function."""
GLOBALS = """
struct core task_struct { int new_field; };
static volatile int counter;
static int (*get_prandom_u32)(void) = (void *)7;
"""
PROGRAM = 'SEC("socket") int p(void *ctx)'


def kernel(*version: int) -> KernelTypes:
    """A kernel with all signs up to a version, and with types of programs and maps that are not in question."""
    btf = RawBtf()
    number = btf.integer()
    helpers = {"probe_read": 4, "get_prandom_u32": 7, "get_current_task": 35, "spin_lock": 93}
    btf.enum("bpf_func_id", **{f"BPF_FUNC_{name}": n for name, n in helpers.items()})
    # so that the verifier follows guards
    btf.struct("bpf_verifier_state", 4, ("active_spin_lock", number, 0), ("speculative", number, 0))
    types = {"SOCKET_FILTER": 1, "KPROBE": 2, "SCHED_CLS": 3, "SOCK_OPS": 13} | (
        {"LSM": 29} if version >= (5, 7) else {}
    )
    btf.enum("bpf_prog_type", **{f"BPF_PROG_TYPE_{name}": n for name, n in types.items()})
    btf.enum("bpf_map_type", **{f"BPF_MAP_TYPE_{name}": n for name, n in TYPES.items()})
    btf.func("schedule", btf.func_proto(number))
    for since, sign in SIGNS.items():
        if since <= version and sign.endswith("()"):
            btf.func(sign[:-2], btf.func_proto(number))
        elif since <= version:
            for struct, member in (one.split(".") for one in sign.split()):
                btf.struct(struct, 4, (member, number, 0))
    name = Kernel.parse(f"debian/1/x86_64/{version[0]}.{version[1]}.0")
    return KernelTypes(name, Btf(btf.build(), source=str(name)))


TYPES = {
    "HASH": 1,
    "ARRAY": 2,
    "STACK_TRACE": 7,
    "ARRAY_OF_MAPS": 12,
    "DEVMAP": 14,
    "SOCKMAP": 15,
    "CPUMAP": 16,
    "SK_STORAGE": 24,
}
SIZE = "int (*max_entries)[8];"


def verdict(source: str, on: KernelTypes) -> ProgramVerdict:
    (found,) = check_on([c_programs.model(source, cpu="v2")], [on]).kernels[0].programs
    return found


def with_map(kind: str, flags: int, *members: str) -> str:
    fixed = f"int (*type)[{TYPES[kind]}]; int (*map_flags)[{flags}]; {' '.join(members)}"
    return f'struct {{ {fixed} }} m SEC(".maps"); {PROGRAM} {{ return 0; }}'


@pytest.mark.parametrize(
    ("flag", "since", "source"),
    [
        ("STACK_BUILD_ID", (4, 17), with_map("STACK_TRACE", 1 << 5, SIZE, "int *key; char (*value)[32];")),
        ("ZERO_SEED", (5, 0), with_map("HASH", 1 << 6, SIZE, "int *key; int *value;")),
        ("RDONLY_PROG", (5, 2), with_map("ARRAY", 1 << 7, SIZE, "int *key; int *value;")),
        ("CLONE", (5, 4), with_map("SK_STORAGE", 1 << 9 | 1, "int *key; int *value;")),
    ],
)  # fmt: skip
def test_flags_of_maps(flag: str, since: tuple[int, int], source: str) -> None:
    for version in SIGNS:
        found = verdict(source, kernel(*version))
        if version >= since:
            assert (found.verdict, found.reasons) == (Verdict.LOADS, ())
        else:
            assert [reason.kind for reason in found.reasons] == [ReasonKind.MAP_FLAG_MISSING]
            assert f"map m has the flag BPF_F_{flag}, " in found.reasons[0].what


@pytest.mark.parametrize("name", kernel_btfs.EXAMPLES)
def test_newer_kernels_know_these_flags(name: str) -> None:
    on = KernelTypes(Kernel.parse(name), Btf(kernel_btfs.read(name), source=name))
    source = with_map("HASH", 1 << 6, SIZE, "int *key; int *value;")
    source += """struct { int (*type)[24]; int (*map_flags)[513]; int *key; int *value; } local SEC(".maps");
    struct { int (*type)[7]; int (*map_flags)[32]; int (*max_entries)[8]; int *key; char (*value)[32]; } s SEC(".maps");
    """
    assert verdict(source, on).verdict is Verdict.LOADS


@pytest.mark.parametrize(
    ("kind", "since"), [("SOCKMAP", (5, 8)), ("DEVMAP", (5, 8)), ("CPUMAP", (5, 9)), ("ARRAY", (4, 17))]
)
def test_values_that_were_descriptors(kind: str, since: tuple[int, int]) -> None:
    for version in SIGNS:
        assert verdict(with_map(kind, 0, SIZE, "int *key; int *value;"), kernel(*version)).verdict is Verdict.LOADS
        found = verdict(with_map(kind, 0, SIZE, "int *key; long *value;"), kernel(*version))
        if version >= since:
            assert found.verdict is Verdict.LOADS
        else:
            assert [reason.kind for reason in found.reasons] == [ReasonKind.MAP_VALUES_TOO_WIDE]
            assert "values of 8 bytes, and this kernel takes only 4 in a BPF_MAP_TYPE_" in found.reasons[0].what


@pytest.mark.parametrize("name", kernel_btfs.EXAMPLES)
def test_newer_kernels_take_wide_values(name: str) -> None:
    features = KernelFeatures(Btf(kernel_btfs.read(name), source=name))
    assert all(map(features.has_wide_values, TYPES.values()))


def test_an_inner_map_that_is_declared() -> None:
    """bpf_obj_name_cpy() takes dots from 5.2 on, and libbpf's name for it has one."""
    inner = "struct inner { int (*type)[2]; int (*max_entries)[1]; int *key; int *value; };"
    source = inner + with_map("ARRAY_OF_MAPS", 0, SIZE, "int *key; struct inner *values[];")
    found = verdict(source, kernel(5, 1))
    assert [reason.kind for reason in found.reasons] == [ReasonKind.INNER_MAP_REFUSED]
    assert found.verdict is Verdict.FAILS
    assert "(m.inner), and this kernel allows none in names" in found.reasons[0].what
    assert verdict(source, kernel(5, 2)).verdict is Verdict.LOADS


def test_a_guarded_global_hangs_on_libbpf() -> None:
    """libbpf 1.4 relocates before it finds out that the kernel has no maps for globals; before, it took the use out."""
    guarded = (
        GLOBALS + PROGRAM + "{ if (bpf_core_field_exists(((struct task_struct *)0)->new_field)) counter++; return 0; }"
    )
    found = verdict(guarded, kernel(5, 1))
    assert (found.verdict, found.reasons[0].kind) == (Verdict.CONDITIONAL, ReasonKind.GLOBAL_DATA_GUARDED)
    assert "program.bpf.c:" in found.reasons[0].source
    assert verdict(guarded, kernel(5, 2)).verdict is Verdict.LOADS
    plain = verdict(GLOBALS + PROGRAM + "{ counter++; return 0; }", kernel(5, 1))
    assert (plain.verdict, plain.reasons[0].kind) == (Verdict.FAILS, ReasonKind.GLOBAL_DATA_MISSING)


def test_a_guarded_kconfig_extern_does_not_load() -> None:
    """libbpf leaves these in the program in every version, with a map that is not there."""
    source = """extern int LINUX_KERNEL_VERSION __attribute__((section(".kconfig")));
    struct core task_struct { int new_field; };"""
    source += PROGRAM + (
        "{ return bpf_core_field_exists(((struct task_struct *)0)->new_field) ? LINUX_KERNEL_VERSION : 0; }"
    )
    found = verdict(source, kernel(5, 1))
    assert (found.verdict, found.reasons[0].kind) == (Verdict.FAILS, ReasonKind.GLOBAL_DATA_MISSING)
    assert verdict(source, kernel(5, 2)).verdict is Verdict.LOADS


READ = "{ long to; probe_read_kernel(&to, 8, ctx); return 0; }"
PROBES = """
static long (*probe_read_kernel)(void *, u32, const void *) = (void *)113;
static void *(*get_current_task)(void) = (void *)35;
"""


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (f'SEC("sockops") int p(void *ctx) {READ}', "bpf_probe_read_kernel"),
        (f'SEC("socket") int p(void *ctx) {READ}', "bpf_probe_read_kernel"),
        ('SEC("sockops") int p(void *ctx) { return get_current_task() != 0; }', "bpf_get_current_task"),
    ],
)
def test_helpers_that_were_for_tracing(program: str, name: str) -> None:
    """libbpf's fallback to bpf_probe_read() helps tracing programs only: bpf_base_func_proto() has none before 5.8."""
    found = verdict(PROBES + program, kernel(5, 4))
    assert (found.verdict, found.reasons[0].kind) == (Verdict.FAILS, ReasonKind.HELPER_OF_TRACING)
    assert found.reasons[0].what == f"this kernel lets no programs but those for tracing call {name}()"
    assert verdict(PROBES + program, kernel(5, 8)).verdict is Verdict.LOADS


def test_the_running_kernel_lets_only_tracing_programs_probe() -> None:
    needs.root_bpf()
    libbpf, btf = needs.libbpf(), Btf(needs.host_btf().read_bytes(), source="host")
    sections = (
        "socket",
        "tc",
        "xdp",
        "cgroup_skb/egress",
        "sockops",
        "sk_skb",
        "kprobe",
        "tracepoint",
        "raw_tp",
        "syscall",
    )
    body = READ.replace("_kernel", "").replace("return 0;", "return 1;")
    programs = (f'SEC("{section}") int p{at}(void *ctx) {body}' for at, section in enumerate(sections))
    source = "static long (*probe_read)(void *, u32, const void *) = (void *)4;" + "\n".join(programs)
    obj = c_programs.model(source)
    (report,) = check_on([obj], [KernelTypes(host(), btf)]).kernels
    said = {found.program: found for found in report.programs}
    did = {loaded.program: not loaded.error for loaded in libbpf.load_each(obj.elf)}
    assert {name: found.verdict is Verdict.LOADS for name, found in said.items()} == did
    assert sum(did.values()) == 4
    assert said["p1"].reasons[0].message == (
        "this kernel lets no programs but those for tracing call bpf_probe_read(): call bpf_probe_read_kernel()"
    )


def test_tracing_programs_have_them() -> None:
    assert verdict(PROBES + f'SEC("kprobe") int p(void *ctx) {READ}', kernel(5, 4)).verdict is Verdict.LOADS
