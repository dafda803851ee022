"""Verdicts: against what each small program is made to show, and against what the running kernel says."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import cache, reduce
from pathlib import Path, PurePosixPath

import pytest

from hatch_bpf.arch import X86_64
from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler.clang import compile_source
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.core_relo.minimize import minimize
from hatch_bpf.kernels.identity import Kernel, host
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.objects.uapi import map_type_name
from hatch_bpf.portability.object_check import Checker, KernelTypes, check_on
from hatch_bpf.portability.report import remedy_for
from hatch_bpf.portability.verdicts import ProgramVerdict, Reason, ReasonKind, Verdict, Weight, decide
from hatch_bpf.runtime.sections import parse_section
from tests.common import c_programs, kernel_btfs, libbpf_log, needs, objects
from tests.common.btf_builder import RawBtf
from tests.common.rewritten_btf import rewrite
from tests.lab.steps.verdicts import loads_with_libbpf

SOURCES = Path(__file__).parents[1] / "bpf" / "portability"
FILES = sorted(path.name for path in SOURCES.glob("*.bpf.c"))
CPUS = ("v1", "v3")
"""Instruction sets to compile for: v3 has 32-bit arithmetic and jumps, so that guards take other forms."""
EXPECTED = {
    "loads": Verdict.LOADS,
    "fails": Verdict.FAILS,
    "conditional": Verdict.CONDITIONAL,
    "kernel_btf": Verdict.NEEDS_KERNEL_BTF,
}
EPERM = 1


@cache
def compiled(file: str, cpu: str) -> bytes:
    needs.tool("clang")
    made = compile_source(
        PurePosixPath(file),
        root=SOURCES,
        arch=X86_64,
        toolchain=find_toolchain(),
        cflags=(f"-mcpu={cpu}",),
        environ=dict(os.environ),
    )
    return made.data


def model(file: str, cpu: str = "v1") -> ObjectModel:
    return read_object(compiled(file, cpu), path=f"{cpu}/{file.removesuffix('.c')}.o")


@cache
def btf_of(kernel: str) -> Btf:
    return Btf(kernel_btfs.read(kernel), source=kernel)


def verdicts_on(kernel: str, *models: ObjectModel) -> dict[tuple[str, str], ProgramVerdict]:
    """By path of the object and name of the program."""
    btf = btf_of(kernel)
    types = KernelTypes(Kernel.parse(kernel), btf, Btf(minimize(models, btf), source="minimized"))
    return {(found.object, found.program): found for found in Checker(models).check(types).programs}


def verdict(kernel: str, file: str, program: str) -> ProgramVerdict:
    obj = model(file)
    return verdicts_on(kernel, obj)[obj.path, program]


def message_for(reason: Reason, kernel: str) -> str:
    return f"{reason.what}: {remedy_for(reason, kernel, has_alternative=False)}"


def line_of(file: str, text: str, *, after: str = "") -> int:
    """Number of the first line of a source that holds `text`, behind the one that holds `after`."""
    lines = (SOURCES / file).read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if after in line)
    return next(number for number, line in enumerate(lines[start:], start + 1) if text in line)


@pytest.mark.thorough
@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_every_program_gets_the_verdict_that_its_name_says(kernel: str) -> None:
    models = [model(file, cpu) for file in FILES for cpu in CPUS]
    wrong = []
    for (path, program), found in verdicts_on(kernel, *models).items():
        prefix, separator, _ = program.partition("__")
        kinds = {reason.kind for reason in found.reasons}
        if ReasonKind.ATTACH_UNSUPPORTED in kinds:
            assert "/arm64/5.10." in kernel or "/arm64/6.1." in kernel
            assert found.verdict in (Verdict.CANNOT_ATTACH, Verdict.FAILS)
        elif "callback" in program and ReasonKind.CALLBACKS_MISSING in kinds:
            # there, what calls back cannot load at all
            assert "/5.10." in kernel
            assert found.verdict is Verdict.FAILS
        elif ReasonKind.KERNEL_WITHOUT_BTF in kinds:
            # it has BTF, which its list of functions does not show
            assert "/arm64/5.10." in kernel
            assert found.verdict is Verdict.NEEDS_KERNEL_BTF
        elif separator and found.verdict is not EXPECTED[prefix]:
            wrong.append((path, program, found.verdict.value, [reason.message for reason in found.reasons]))
    assert wrong == []


def test_the_running_kernel_agrees(subtests_failed: list[str]) -> None:
    """A program that fails is refused, one that loads is taken, and a condition's other half tells which it is."""
    needs.root_bpf()
    libbpf, kernel, btf = needs.libbpf(), host(), Btf(needs.host_btf().read_bytes(), source="host")
    compared = 0
    for file in FILES:
        for cpu in CPUS:
            obj = model(file, cpu)
            report = check_on([obj], [KernelTypes(kernel, btf, Btf(minimize([obj], btf), source="minimized"))])
            by_name = {found.program: found for found in report.kernels[0].programs}
            for loaded in libbpf.load_each(obj.elf):
                found = by_name[loaded.program]
                if _depends_on_the_machine(found, obj, loaded.error):
                    continue
                compared += 1
                loads = loads_with_libbpf(found, has_flavors=libbpf.version >= (1, 3))
                fails = found.verdict is Verdict.FAILS or any("globals it is)" in r.what for r in found.reasons)
                fails = fails if loads is None else not loads
                if fails != bool(loaded.error):
                    subtests_failed.append(f"{obj.path} {found}: errno {loaded.error}\n{loaded.log[-500:]}")
    assert compared > 130


@pytest.fixture
def subtests_failed() -> object:
    """Collect what differs, and tell of all of it at once."""
    failed: list[str] = []
    yield failed
    assert not failed, "\n".join(failed)


def _depends_on_the_machine(found: ProgramVerdict, obj: ObjectModel, error: int) -> bool:
    """Refusals that say nothing of the program: those of this machine, and what only the application can supply."""
    program = next(program for program in obj.programs if program.name == found.program)
    section = parse_section(program.section)
    assert section is not None or found.verdict is Verdict.FAILS
    if section is None:
        return False
    # a locked-down machine loads no tracing program that changes kernel code, nor an LSM program
    if error == EPERM and (
        section.program_type == "LSM" or section.attach_type in ("BPF_TRACE_FENTRY", "BPF_TRACE_FEXIT")
    ):
        return True
    unset = section.needs_kernel_btf and (not section.target or bool(section.module))
    return unset or any(reason.kind is ReasonKind.MAP_UNSIZED for reason in found.reasons)


def test_the_running_kernel_agrees_on_libbpf_tools(subtests_failed: list[str]) -> None:
    needs.root_bpf()
    libbpf, kernel, btf = needs.libbpf(), host(), Btf(needs.host_btf().read_bytes(), source="host")
    models = objects.models()
    report = Checker(list(models.values())).check(KernelTypes(kernel, btf))
    by_name = {(found.object, found.program): found for found in report.programs}
    compared = 0
    for obj in models.values():
        for loaded in libbpf.load_each(obj.elf):
            found = by_name[obj.path, loaded.program]
            if _depends_on_the_machine(found, obj, loaded.error):
                continue
            compared += 1
            # none of these programs hangs on a global that is set in the object
            if (found.at_load is Verdict.FAILS) != bool(loaded.error):
                subtests_failed.append(f"{obj.path} {found}: errno {loaded.error}\n{loaded.log[-500:]}")
    assert compared > 180


def test_an_unguarded_field_is_told_with_its_line_and_a_guard() -> None:
    kernel = kernel_btfs.EXAMPLES[0]
    found = verdict(kernel, "guards.bpf.c", "fails__no_guard")
    (reason,) = found.reasons
    assert reason.kind is ReasonKind.CO_RE_MISSING
    line = line_of("guards.bpf.c", "return BPF_CORE_READ", after="fails__no_guard")
    assert reason.source == f"guards.bpf.c:{line}"
    assert message_for(reason, kernel) == (
        "struct task_struct___never.hatch_bpf_never is not in this kernel: guard it with "
        "bpf_core_field_exists(struct task_struct___never, hatch_bpf_never), "
        f"or remove {kernel} from the option `kernels`"
    )


def test_a_missing_type_may_be_a_modules() -> None:
    (reason,) = verdict(kernel_btfs.EXAMPLES[0], "guards.bpf.c", "fails__type_without_guard").reasons
    assert "whose BTF has no struct hatch_bpf_never (a module may define it, but no embedded BTF" in reason.message


def test_a_missing_enumerator_is_guarded_by_its_own_macro() -> None:
    (reason,) = verdict(kernel_btfs.EXAMPLES[0], "guards.bpf.c", "fails__enumerator_without_guard").reasons
    enum, value = "enum bpf_func_id___never", "BPF_FUNC_hatch_bpf_never___never"
    assert reason.remedy == f"guard it with bpf_core_enum_value_exists({enum}, {value})"


@pytest.mark.parametrize(
    ("program", "names", "as_built"),
    [
        ("conditional__on_a_global", "use_never", "is not"),
        ("conditional__on_a_global_that_is_set", "use_never_by_default", "is"),
        ("conditional__on_a_comparison", "level", "is not"),
        ("conditional__on_a_mask", "level", "is not"),
        ("conditional__on_two_globals", "level, use_never", "is not"),
        ("conditional__on_a_global_passed_on", "use_never", "is not"),
    ],
)
def test_a_condition_names_its_globals(program: str, names: str, as_built: str) -> None:
    (reason,) = verdict(kernel_btfs.EXAMPLES[-1], "globals.bpf.c", program).reasons
    assert f"whether it is reached depends on {names} (with the initial values of globals it {as_built})" in reason.what
    assert "remove" not in message_for(reason, "any")


def test_a_condition_on_the_configuration_names_it() -> None:
    reason, note = verdict(kernel_btfs.EXAMPLES[-1], "externs.bpf.c", "conditional__on_the_configuration").reasons
    assert reason.what.endswith("depends on CONFIG_HATCH_BPF_NEVER")
    assert note.kind is ReasonKind.KCONFIG_UNKNOWN


_KCONFIG = """
extern int {option} __attribute__((section(".kconfig"){weak}));
SEC("socket") int program(void *ctx) {{ return {option} != 0; }}
"""


@pytest.mark.parametrize(
    ("option", "weak", "expected"),
    [
        ("CONFIG_HATCH_BPF_NEVER", "", Verdict.CONDITIONAL),
        ("CONFIG_HATCH_BPF_NEVER", ", weak", Verdict.LOADS),
        ("CONFIG_HZ", "", Verdict.LOADS),
    ],
)
def test_an_option_that_is_not_weak_is_a_condition(option: str, weak: str, expected: Verdict) -> None:
    obj = c_programs.model(_KCONFIG.format(option=option, weak=weak))
    (found,) = verdicts_on(kernel_btfs.EXAMPLES[0], obj).values()
    assert (found.verdict, [reason.kind for reason in found.reasons]) == (expected, [ReasonKind.KCONFIG_UNKNOWN])
    assert ("and that it sets CONFIG_HATCH_BPF_NEVER: declare it __weak" in found.reasons[0].message) == (
        expected is Verdict.CONDITIONAL
    )


def test_libbpf_refuses_an_option_that_is_not_weak_and_not_set() -> None:
    needs.root_bpf()
    obj = c_programs.model(_KCONFIG.format(option="CONFIG_HATCH_BPF_NEVER", weak=""))
    assert [loaded.error != 0 for loaded in needs.libbpf().load_each(obj.elf)] == [True]


@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_a_global_subprogram_that_is_not_called_counts_where_the_kernel_checks_it(kernel: str) -> None:
    found = verdict(kernel, "lazy_global.bpf.c", "global_subprogram_behind_a_guard")
    # since Linux 6.8, a global subprogram is checked when a call of it is reached
    major, minor = map(int, kernel.rsplit("/", 1)[1].split(".")[:2])
    assert found.verdict is (Verdict.LOADS if (major, minor) >= (6, 8) else Verdict.FAILS)


@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_what_a_helper_reads_is_known_afterwards_where_the_kernel_tells_reads_from_writes(kernel: str) -> None:
    found = verdict(kernel, "helper_memory.bpf.c", "guard_in_memory_that_a_helper_reads")
    # Linux 6.12 does not, in the lab, and 6.18 does
    major, minor = map(int, kernel.rsplit("/", 1)[1].split(".")[:2])
    assert found.verdict is (Verdict.LOADS if (major, minor) >= (6, 18) else Verdict.FAILS)


def old_kernel() -> Btf:
    """Of the kind that people still meet: helpers, map and program types as of Linux 4.18, no global variables."""
    btf = RawBtf()
    btf.integer()
    btf.enum(
        "bpf_func_id",
        BPF_FUNC_map_lookup_elem=1,
        BPF_FUNC_map_update_elem=2,
        BPF_FUNC_map_delete_elem=3,
        BPF_FUNC_probe_read=4,
        BPF_FUNC_ktime_get_ns=5,
        BPF_FUNC_perf_event_output=25,
    )
    btf.enum("bpf_map_type", BPF_MAP_TYPE_UNSPEC=0, BPF_MAP_TYPE_HASH=1, BPF_MAP_TYPE_PERF_EVENT_ARRAY=4)
    btf.enum("bpf_prog_type", BPF_PROG_TYPE_SOCKET_FILTER=1, BPF_PROG_TYPE_KPROBE=2, BPF_PROG_TYPE_SCHED_CLS=3)
    btf.enum("bpf_attach_type", BPF_CGROUP_INET_INGRESS=0)
    btf.func("schedule", btf.func_proto(0))
    btf.func("vfs_read", btf.func_proto(0))
    return Btf(btf.build(), source="old kernel")


def test_a_ring_buffer_on_an_old_kernel_is_told_at_build_time() -> None:
    kernel = Kernel.parse("centos/8/x86_64/4.18.0-147.el8")
    report = check_on([model("ringbuf.bpf.c"), model("perfbuf.bpf.c")], [KernelTypes(kernel, old_kernel())])
    ring, perf = report.kernels[0].programs
    assert ring.verdict is Verdict.FAILS
    assert {reason.kind for reason in ring.reasons} == {ReasonKind.MAP_TYPE_MISSING, ReasonKind.HELPER_MISSING}
    assert message_for(ring.reasons[0], str(kernel)) == (
        "map events is a BPF_MAP_TYPE_RINGBUF, which this kernel does not know: use bpf_perf_event_output() and a "
        "BPF_MAP_TYPE_PERF_EVENT_ARRAY map there; the option `alternatives` chooses one of both by what the kernel "
        f"has, or remove {kernel} from the option `kernels`"
    )
    line = line_of("ringbuf.bpf.c", "bpf_ringbuf_output(")
    assert [reason.source for reason in ring.reasons] == ["", f"ringbuf.bpf.c:{line}"]
    assert perf.verdict is Verdict.LOADS
    assert report.exit_status == 1


def test_a_ring_buffer_on_the_archives_old_kernels() -> None:
    needs.archive()
    old = [kernel for kernel in kernel_btfs.FILES if kernel.rsplit("/", 1)[1].startswith(("4.18.", "4.19."))]
    assert old
    for kernel in old:
        ring, perf = verdicts_on(kernel, model("ringbuf.bpf.c"), model("perfbuf.bpf.c")).values()
        assert perf.verdict is Verdict.LOADS, kernel
        assert ring.verdict is Verdict.FAILS, kernel
        assert ring.reasons[0].kind is ReasonKind.MAP_TYPE_MISSING, kernel


def test_libbpf_falls_back_to_probe_read_on_old_kernels() -> None:
    """So a program that calls probe_read_kernel() isn't told to be missing it, but one that calls another helper is."""
    kernel = Kernel.parse("centos/8/x86_64/4.18.0-147.el8")
    report = check_on([model("guards.bpf.c")], [KernelTypes(kernel, old_kernel())])
    for found in report.kernels[0].programs:
        texts = [reason.what for reason in found.reasons if reason.kind is ReasonKind.HELPER_MISSING]
        assert not any("probe_read" in text for text in texts)
        if "overwritten_by_a_helper" in found.program:
            assert any("bpf_get_current_task()" in text for text in texts)


def test_program_types_of_a_newer_kernel() -> None:
    kernel = Kernel.parse("centos/8/x86_64/4.18.0-147.el8")
    found = check_on([model("targets.bpf.c")], [KernelTypes(kernel, old_kernel())]).kernels[0].programs
    by_name = {program.program: program for program in found}
    reason = by_name["kernel_btf__fentry"].reasons[0]
    assert reason.kind is ReasonKind.PROGRAM_TYPE_MISSING
    assert reason.remedy == "provide a kprobe/vfs_read program for it"
    assert by_name["loads__kprobe"].verdict is Verdict.LOADS


def test_attach_targets_that_are_looked_up_at_attach_are_conditions() -> None:
    obj = model("targets.bpf.c")
    by_name = {name: found for (_, name), found in verdicts_on(kernel_btfs.EXAMPLES[-1], obj).items()}
    for name, found in by_name.items():
        kinds = [reason.kind for reason in found.reasons]
        if "cannot_attach" in name:
            assert kinds == [ReasonKind.ATTACH_TARGET_UNKNOWN]
        elif name.startswith("loads__"):
            assert kinds == []
    assert by_name["fails__tp_btf"].reasons[0].remedy == "provide a raw_tp/hatch_bpf_never program for it"


def test_a_read_of_an_argument_that_the_target_lacks_names_both() -> None:
    found = verdict(kernel_btfs.EXAMPLES[-1], "arguments.bpf.c", "fails__behind_the_return_value")
    (reason,) = [reason for reason in found.reasons if reason.kind is ReasonKind.ARGUMENT_MISSING]
    assert reason.what == "the program reads argument 6 of vfs_fsync_range, which has 4 arguments on this kernel"
    line = line_of("arguments.bpf.c", "volatile __u64 value = ctx[argument]")
    assert reason.source == f"arguments.bpf.c:{line}"


def _version(kernel: str) -> tuple[int, ...]:
    return tuple(map(int, kernel.rsplit("/", 1)[1].split(".")[:2]))


_EXTENDED = """
#define NAMED(section, name) SEC(section) int name(void *ctx) { return 0; }
NAMED("xdp.frags", frags)
NAMED("kprobe.session/vfs_read", session)
NAMED("cgroup/connect_unix", connect_unix)
NAMED("sk_lookup", lookup)
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_flags_and_attach_types_count_from_the_release_that_brought_them(kernel: str) -> None:
    """BPF_F_XDP_HAS_FRAGS, BPF_TRACE_KPROBE_SESSION, BPF_CGROUP_UNIX_CONNECT and BPF_SK_LOOKUP."""
    found = verdicts_on(kernel, c_programs.model(_EXTENDED))
    since = {"frags": (5, 18), "session": (6, 10), "connect_unix": (6, 7), "lookup": (5, 9)}
    for (_, program), verdict_there in found.items():
        loads = _version(kernel) >= since[program]
        known = [reason for reason in verdict_there.reasons if reason.kind is not ReasonKind.LIBBPF_TOO_OLD]
        refused = Verdict.CANNOT_ATTACH if program == "session" else Verdict.FAILS
        assert decide(known)[0] is (Verdict.LOADS if loads else refused), program
        texts = [reason.what for reason in known]
        if loads:
            assert texts == []
        elif program == "frags":
            assert texts == ['SEC("xdp.frags") needs BPF_F_XDP_HAS_FRAGS, which this kernel does not know']
        elif program == "session":
            assert texts[0].endswith("which this kernel does not know, so it loads but can never be attached")
        else:
            assert texts[0].endswith("which this kernel does not know, so it does not load")


def test_sleepable_programs_on_a_kernel_from_before_them() -> None:
    btf = RawBtf()
    btf.integer()
    btf.enum("bpf_prog_type", BPF_PROG_TYPE_UNSPEC=0, BPF_PROG_TYPE_TRACING=26)
    btf.func("vfs_read", btf.func_proto(0))
    old = KernelTypes(Kernel.parse("debian/11/x86_64/5.8.0"), Btf(btf.build(), source="5.8"))
    source = """SEC("fentry.s/vfs_read") int slow(void *ctx) { return 0; }
    SEC("fentry/vfs_read") int fast(void *ctx) { return 0; }"""
    slow, fast = check_on([c_programs.model(source)], [old]).kernels[0].programs
    assert slow.verdict is Verdict.FAILS
    assert slow.reasons[0].what == 'SEC("fentry.s/vfs_read") is sleepable, and this kernel is too old for that'
    assert fast.verdict is Verdict.NEEDS_KERNEL_BTF


_OF_7_2 = """
SEC("tp_btf.s/sys_enter") int btf(void *ctx) { return 0; }
SEC("raw_tp.s/sys_enter") int raw(void *ctx) { return 0; }
SEC("tp.s/syscalls/sys_enter_read") int plain(void *ctx) { return 0; }
SEC("fentry.multi/vfs_*") int many(void *ctx) { return 0; }
SEC("fentry.multi.s/vfs_*") int many_that_sleep(void *ctx) { return 0; }
"""


@pytest.mark.parametrize("attach_types", [{"BPF_TRACE_FSESSION": 58}, {"BPF_TRACE_FENTRY_MULTI": 59}])
def test_tracepoints_that_sleep_and_functions_by_pattern_came_with_linux_7_2(attach_types: dict[str, int]) -> None:
    """As the kernel lab saw them load and attach on 7.2 with libbpf 1.8."""
    btf = RawBtf()
    btf.integer()
    btf.enum("bpf_prog_type", BPF_PROG_TYPE_TRACEPOINT=5, BPF_PROG_TYPE_RAW_TRACEPOINT=17, BPF_PROG_TYPE_TRACING=26)
    btf.enum("bpf_attach_type", BPF_TRACE_RAW_TP=23, **attach_types)
    btf.struct("bpf_prog_aux", 4, ("sleepable", 1, 0))
    for tracepoint in ("sys_enter", "sched_switch"):
        btf.typedef(f"btf_trace_{tracepoint}", 1)
    btf.func("__x64_sys_read", btf.func_proto(0))
    kernel = KernelTypes(Kernel.parse("debian/13/x86_64/7.2.0"), Btf(btf.build(), source="7.2"))
    found = {p.program: p for p in check_on([c_programs.model(_OF_7_2)], [kernel]).kernels[0].programs}
    is_new = "BPF_TRACE_FENTRY_MULTI" in attach_types
    for program in found.values():
        assert program.verdict is (Verdict.CONDITIONAL if is_new else Verdict.FAILS), program
    told = {name: [reason.what for reason in program.reasons] for name, program in found.items()}
    if is_new:
        assert told["raw"] == [
            'libbpf before 1.8 does not know SEC("raw_tp.s/sys_enter"), and refuses to load it',
            'SEC("raw_tp.s/sys_enter") attaches only if its tracepoint may sleep, as those of system calls may; BTF '
            "does not say which",
        ]
        assert told["many"][1:] == ['SEC("fentry.multi/vfs_*") needs the kernel\'s own BTF']
    else:
        assert 'SEC("tp_btf.s/sys_enter") is sleepable, and this kernel is too old for that' in told["btf"]
        assert 'SEC("tp.s/syscalls/sys_enter_read") is sleepable, and this kernel is too old for that' in told["plain"]
        assert any(
            "attaches as BPF_TRACE_FENTRY_MULTI, which this kernel does not know" in what for what in told["many"]
        )


def test_a_map_type_of_a_newer_kernel() -> None:
    source = """struct { int (*type)[30]; int (*max_entries)[8]; int *value; } bloom SEC(".maps");
    SEC("socket") int program(void *ctx) { return 0; }"""
    old = KernelTypes(Kernel.parse("centos/8/x86_64/4.18.0-147.el8"), old_kernel())
    (found,) = check_on([c_programs.model(source)], [old]).kernels[0].programs
    (reason,) = [reason for reason in found.reasons if reason.kind is ReasonKind.MAP_TYPE_MISSING]
    assert reason.what == "map bloom is a BPF_MAP_TYPE_BLOOM_FILTER, which this kernel does not know"
    assert "another type of map" in reason.remedy


KEYLESS, RING, SIZED = "int *value;", "", "int *key; int *value;"
MAPS = [
    ("HASH", SIZED, 8, ""),
    ("HASH", "int *value;", 8, "has no key_size"),
    ("HASH", "int *key;", 8, "has no value_size"),
    ("LRU_HASH", "", 8, "has no key_size and no value_size"),
    ("HASH", "", 0, "has no key_size and no value_size and no max_entries"),
    ("ARRAY", SIZED, 8, ""),
    ("ARRAY", SIZED, 0, "has no max_entries"),
    ("ARRAY", "long *key; int *value;", 8, "has keys of 8 bytes, and the keys of a BPF_MAP_TYPE_ARRAY are indices"),
    ("PERCPU_ARRAY", "short *key; int *value;", 8, "has keys of 2 bytes"),
    ("PROG_ARRAY", "int *value;", 8, "has no key_size"),
    ("PERF_EVENT_ARRAY", SIZED, 0, ""),
    ("STACK_TRACE", "int *key;", 8, "has no value_size"),
    ("QUEUE", KEYLESS, 8, ""),
    ("STACK", KEYLESS, 0, "has no max_entries"),
    ("BLOOM_FILTER", KEYLESS, 8, ""),
    ("RINGBUF", RING, 4096, ""),
    ("DEVMAP", "long *key; int *value;", 8, "has keys of 8 bytes"),
    ("SOCKHASH", "long *key; int *value;", 8, ""),
    ("CPUMAP", SIZED, 8, ""),
]


def with_map(map_type: str, members: str, count: int) -> ObjectModel:
    number = next(number for number in range(64) if map_type_name(number) == f"BPF_MAP_TYPE_{map_type}")
    entries = f"int (*max_entries)[{count}];" if count else ""
    return c_programs.model(
        f"""struct {{ int (*type)[{number}]; {entries} {members} }} m SEC(".maps");
        SEC("socket") int program(void *ctx) {{ return 0; }}"""
    )


@pytest.mark.parametrize(("map_type", "members", "count", "what"), MAPS)
def test_the_sizes_that_a_map_cannot_do_without(map_type: str, members: str, count: int, what: str) -> None:
    ((_, found),) = verdicts_on(kernel_btfs.EXAMPLES[-1], with_map(map_type, members, count)).items()
    told = [reason for reason in found.reasons if reason.kind in (ReasonKind.MAP_UNSIZED, ReasonKind.MAP_REFUSED)]
    assert [what in reason.what for reason in told] == [True] * bool(what)
    refused = [reason for reason in told if reason.kind is ReasonKind.MAP_REFUSED]
    assert bool(refused) == ("has keys" in what)
    expected = Verdict.FAILS if refused else Verdict.CONDITIONAL if told else Verdict.LOADS
    assert found.verdict is expected


@pytest.mark.parametrize(("map_type", "members", "count", "what"), MAPS)
def test_the_running_kernel_agrees_on_what_maps_lack(map_type: str, members: str, count: int, what: str) -> None:
    needs.root_bpf()
    (loaded,) = needs.libbpf().load_each(with_map(map_type, members, count).elf)
    assert bool(loaded.error) == bool(what)


PRINT = "static long (*bpf_trace_printk)(const char *, u32, ...) = (void *)6;"
NOW = "static u64 (*bpf_ktime_get_ns)(void) = (void *)5;"
LICENSES = [
    (PRINT, "bpf_trace_printk(text, 2)", "Proprietary", "bpf_trace_printk()"),
    (PRINT, "bpf_trace_printk(text, 2)", "", "bpf_trace_printk()"),
    (PRINT, "bpf_trace_printk(text, 2)", "gpl", "bpf_trace_printk()"),
    (PRINT, "bpf_trace_printk(text, 2)", "GPL v2", ""),
    (PRINT, "bpf_trace_printk(text, 2)", "Dual MPL/GPL", ""),
    (PRINT, "off ? bpf_trace_printk(text, 2) : 0", "Proprietary", ""),
    (NOW, "bpf_ktime_get_ns()", "Proprietary", ""),
]


def licensed(declared: str, call: str, license_: str) -> ObjectModel:
    source = f"""{declared} const volatile int off;
    SEC("raw_tp/sched_switch") int program(void *ctx) {{ char text[] = "x"; return {call}; }}"""
    return c_programs.model(f'{source} char LICENSE[] SEC("license") = "{license_}";')


@pytest.mark.parametrize(("declared", "call", "license_", "refused"), LICENSES)
def test_what_only_gpl_programs_may_call(declared: str, call: str, license_: str, refused: str) -> None:
    ((_, found),) = verdicts_on(kernel_btfs.EXAMPLES[-1], licensed(declared, call, license_)).items()
    told = [reason for reason in found.reasons if reason.kind is ReasonKind.LICENSE]
    assert [reason.what for reason in told if reason.weight is Weight.FAILS] == (
        [f"{refused} needs a license that is compatible with the GPL, and this object's is "
         + (f'"{license_}"' if license_ else "none")] if refused else []
    )  # fmt: skip
    assert found.verdict is (Verdict.FAILS if refused else Verdict.CONDITIONAL if "off" in call else Verdict.LOADS)


@pytest.mark.parametrize(("declared", "call", "license_", "refused"), LICENSES)
def test_the_running_kernel_agrees_on_licenses(declared: str, call: str, license_: str, refused: str) -> None:
    needs.root_bpf()
    (loaded,) = needs.libbpf().load_each(licensed(declared, call, license_).elf)
    assert bool(loaded.error) == bool(refused), loaded.log


def test_an_old_kernel_keeps_the_time_for_gpl_programs() -> None:
    old = KernelTypes(Kernel.parse("centos/8/x86_64/4.18.0-147.el8"), old_kernel())
    found, free = (
        check_on([licensed(NOW, "bpf_ktime_get_ns()", license_)], [old]).kernels[0].programs[0].reasons
        for license_ in ("Proprietary", "GPL")
    )
    assert [reason.kind for reason in found if reason.kind is ReasonKind.LICENSE] == [ReasonKind.LICENSE]
    assert not any(reason.kind is ReasonKind.LICENSE for reason in free)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ('SEC("lsm/file_open") int program(void *ctx) { return 0; }', 'SEC("lsm/file_open")'),
        (
            """extern void bpf_rcu_read_lock(void) SEC(".ksyms"); extern void bpf_rcu_read_unlock(void) SEC(".ksyms");
            SEC("raw_tp/sched_switch") int program(void *ctx)
            { bpf_rcu_read_lock(); bpf_rcu_read_unlock(); return 0; }""",
            "kfunc bpf_rcu_read_lock()",
        ),
    ],
)
def test_what_is_for_gpl_programs_as_a_whole(source: str, what: str) -> None:
    for license_, verdict_ in (("Proprietary", Verdict.FAILS), ("GPL", Verdict.NEEDS_KERNEL_BTF)):
        model = c_programs.model(f'{source} char LICENSE[] SEC("license") = "{license_}";')
        ((_, found),) = verdicts_on(kernel_btfs.EXAMPLES[-1], model).items()
        assert found.verdict is verdict_
        told = [reason.what for reason in found.reasons if reason.kind is ReasonKind.LICENSE]
        assert [line.partition(what)[0] for line in told[:1]] == ([""] if verdict_ is Verdict.FAILS else [])


def struct_ops(kernel: str, name: str, members: str, section: str = ".struct_ops") -> ProgramVerdict:
    source = f"""SEC("struct_ops/f") int f(void *ctx) {{ return 0; }}
    struct {name} {{ {members} }};
    SEC("{section}") struct {name} ops = {{ .ssthresh = f }};"""
    ((_, found),) = verdicts_on(kernel, c_programs.model(source)).items()
    return found


SSTHRESH = "int (*ssthresh)(void *);"
OLD_ARM64 = "debian/11/arm64/5.10.0-32-cloud-arm64"
"""Can't attach struct_ops at all."""


@pytest.mark.parametrize("section", [".struct_ops", ".struct_ops.link"])
@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_struct_ops_are_the_kernels_that_have_their_types(kernel: str, section: str) -> None:
    has_links = not any(release in kernel for release in ("/5.10.", "/6.1."))
    loads = section == ".struct_ops" or has_links
    for name in ("tcp_congestion_ops", "tcp_congestion_ops___mine"):
        found = struct_ops(kernel, name, SSTHRESH, section)
        told = [reason.kind for reason in found.reasons if reason.weight >= Weight.CANNOT_ATTACH]
        unsupported = [ReasonKind.ATTACH_UNSUPPORTED] * (kernel == OLD_ARM64)
        assert told == [*[ReasonKind.STRUCT_OPS_MISSING] * (not loads), *unsupported]
        assert (found.verdict is Verdict.NEEDS_KERNEL_BTF) is not bool(told)
    never = struct_ops(kernel, "hatch_bpf_never", SSTHRESH, section)
    assert never.verdict is Verdict.FAILS
    assert any("this kernel has no struct_ops hatch_bpf_never" in reason.what for reason in never.reasons)


@pytest.mark.parametrize(
    ("members", "verdict", "told"),
    [
        ("int (*hatch_bpf_never)(void);", Verdict.CONDITIONAL, "tcp_congestion_ops has no hatch_bpf_never"),
        ("char name[20];", Verdict.FAILS, "name of this kernel's struct tcp_congestion_ops has another kind or size"),
        ("int (*name)(void);", Verdict.FAILS, "name of this kernel's struct tcp_congestion_ops has another kind"),
        ("char name[16];", Verdict.NEEDS_KERNEL_BTF, "needs the kernel's own BTF"),
    ],
)
def test_struct_ops_have_no_members_that_the_kernel_lacks(members: str, verdict: Verdict, told: str) -> None:
    found = struct_ops("debian/12/x86_64/6.1.0-50-cloud-amd64", "tcp_congestion_ops", SSTHRESH + members)
    assert found.verdict is verdict
    assert told in found.reasons[0].what


_FIELD = """
struct __attribute__((preserve_access_index)) thing { int before; TYPE field; };
SEC("socket") long program(struct thing *thing) { return thing->field; }
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize(
    ("kernel", "kind", "told"),
    [
        (
            "struct thing { char before[40000]; int field; } thing;",
            ReasonKind.CO_RE_REFUSED,
            "cannot have offset 40000",
        ),
        (
            "struct thing { long field; } thing;",
            ReasonKind.CO_RE_SIZE,
            "has 4 bytes in the object and 8 in this kernel",
        ),
        (
            "struct thing { int field; } thing; struct thing___2 { long before; int field; } more;",
            ReasonKind.CO_RE_REFUSED,
            "more than one struct thing.field, at bits 0 and 64",
        ),
        ("struct thing { int field; } thing;", None, ""),
    ],
)
def test_a_field_that_cannot_be_read_so(kernel: str, kind: ReasonKind | None, told: str, tmp_path: Path) -> None:
    """And libbpf, given this for the kernel's BTF, doesn't load it either."""
    obj, btf = c_programs.model(_FIELD.replace("TYPE", "int")), c_programs.kernel(kernel)
    (found,) = check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
    assert [reason.kind for reason in found.reasons if reason.weight is Weight.FAILS] == ([kind] if kind else [])
    assert told in " ".join(reason.what for reason in found.reasons)
    path = tmp_path / "kernel.btf"
    path.write_bytes(rewrite(btf))
    (said,) = libbpf_log.relocate(obj.elf, path)
    assert (said.error or said.actions == ["0: poison"]) == bool(kind)


def test_a_relocation_outside_of_any_function_harms_none() -> None:
    source = _FIELD.replace("TYPE", "int") + 'SEC("xdp") long other(struct thing *thing) { return thing->field; }'
    obj, btf = c_programs.model(source), c_programs.kernel("struct thing { long field; } thing;")
    without = replace(obj, programs=tuple(p for p in obj.programs if p.name == "program"))
    (found,) = check_on([without], [KernelTypes(host(), btf)]).kernels[0].programs
    assert found == check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs[0]


def test_a_strong_symbol_that_no_btf_lists_is_noted() -> None:
    source = """extern const void hatch_bpf_never __attribute__((section(".ksyms")));
    SEC("raw_tp/sched_switch") long program(void *ctx) { return (long)&hatch_bpf_never; }"""
    (found,) = verdicts_on(kernel_btfs.EXAMPLES[-1], c_programs.model(source)).values()
    (reason,) = found.reasons
    assert (found.verdict, reason.kind) == (Verdict.LOADS, ReasonKind.KSYM_UNKNOWN)
    assert "libbpf looks it up in /proc/kallsyms" in reason.what


def test_a_namesake_in_the_minimized_btf_alone_is_noticed() -> None:
    obj, btf = c_programs.model(_FIELD.replace("TYPE", "int")), c_programs.kernel("struct thing { int field; } thing;")
    two = c_programs.kernel("struct thing { int field; } thing; struct thing___2 { long before; int field; } more;")
    (found,) = check_on([obj], [KernelTypes(host(), btf, two)]).kernels[0].programs
    assert [reason.kind for reason in found.reasons] == [ReasonKind.MINIMIZED_DIFFERS]


_EXTERN = """
struct task_struct {{ int pid; }};
extern {declaration} __attribute__((section(".ksyms"), weak));
SEC("tp_btf/sched_switch") int program(void *ctx) {{ return {use} ? 1 : 0; }}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize(
    ("declaration", "is_so"),
    [
        ("struct task_struct *bpf_task_acquire(struct task_struct *task)", True),
        ("struct other *bpf_task_acquire(struct other *task)", False),  # only declared
        ("struct task_struct *bpf_task_acquire(const struct task_struct *const task)", True),
        ("struct task_struct *bpf_task_acquire(void)", False),
        ("struct task_struct *bpf_task_acquire(struct task_struct *task, int flags)", False),
        ("struct task_struct *bpf_task_acquire(int pid)", False),
        ("int bpf_task_acquire(struct task_struct *task)", False),
        ("const int bpf_prog_active", True),
        ("const unsigned int bpf_prog_active", True),
        ("const enum { A } bpf_prog_active", False),
        ("const struct task_struct bpf_prog_active", False),
    ],
)
def test_an_extern_is_declared_as_the_kernel_has_it(declaration: str, is_so: bool) -> None:
    """As libbpf says of it on the running kernel, if that has it."""
    needs.root_bpf()
    btf = btf_of_host()
    name = "bpf_prog_active" if "bpf_prog_active" in declaration else "bpf_task_acquire"
    if not btf.find(name, t.Kind.VAR, t.Kind.FUNC):
        pytest.skip(f"the running kernel has no {name}")
    use = name if "(" in declaration else f"&{name}"
    obj = c_programs.model(_EXTERN.format(declaration=declaration, use=use))
    (found,) = check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
    # of functions libbpf 1.3 and newer takes it for missing
    otherwise = Verdict.CONDITIONAL if "(" in declaration else Verdict.FAILS
    assert found.verdict is (Verdict.NEEDS_KERNEL_BTF if is_so else otherwise), found.reasons
    (loaded,) = needs.libbpf().load_each(obj.elf)
    assert ("incompatible" in loaded.log) != is_so, loaded.log


@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_the_address_of_a_kfunc_is_refused_by_kernels_that_have_the_kfunc_but_not_that(kernel: str) -> None:
    """As Linux 6.1 does in the lab: `pseudo btf_id 87476 in ldimm64 isn't KIND_VAR`."""
    obj = c_programs.model(
        """struct bpf_key { int serial; };
        extern void bpf_key_put(struct bpf_key *) __attribute__((section(".ksyms"), weak));
        SEC("raw_tp/sched_switch") int guarded(void *ctx) { return bpf_key_put ? 1 : 0; }
        SEC("raw_tp/sched_switch") int without(void *ctx) { return 0; }"""
    )
    guarded, without = (found.verdict for found in verdicts_on(kernel, obj).values())
    has_it = bool(btf_of(kernel).find("bpf_key_put", t.Kind.FUNC))
    assert guarded is (Verdict.FAILS if has_it and _version(kernel) < (6, 4) else Verdict.NEEDS_KERNEL_BTF)
    assert without is Verdict.NEEDS_KERNEL_BTF


@cache
def btf_of_host() -> Btf:
    return Btf(needs.host_btf().read_bytes(), source="host")


def test_an_optional_program_fails_no_build() -> None:
    obj = model("targets.bpf.c")
    kernel = kernel_btfs.EXAMPLES[0]
    report = check_on([obj], [KernelTypes(Kernel.parse(kernel), btf_of(kernel))])
    assert report.exit_status == 1
    only_optional = tuple(found for found in report.kernels[0].programs if found.program == "fails__optional")
    (found,) = only_optional
    assert found.verdict is Verdict.FAILS
    assert ReasonKind.OPTIONAL in {reason.kind for reason in found.reasons}
    assert replace(report, kernels=(replace(report.kernels[0], programs=only_optional),)).exit_status == 0


def test_a_minimized_btf_of_something_else_is_noticed() -> None:
    kernel = kernel_btfs.EXAMPLES[0]
    obj, other = model("guards.bpf.c"), model("ringbuf.bpf.c")
    wrong = Btf(minimize([other], btf_of(kernel)), source="minimized")
    found = check_on([obj], [KernelTypes(Kernel.parse(kernel), btf_of(kernel), wrong)]).kernels[0].programs
    by_name = {program.program: program for program in found}
    assert by_name["loads__guarded"].verdict is Verdict.FAILS
    assert ReasonKind.MINIMIZED_DIFFERS in {reason.kind for reason in by_name["loads__guarded"].reasons}
    assert ReasonKind.MINIMIZED_DIFFERS not in {
        reason.kind for reason in by_name["fails__helper_without_guard"].reasons
    }


def test_a_copy_of_the_whole_btf_does_as_well_as_a_minimized_one() -> None:
    kernel = kernel_btfs.EXAMPLES[0]
    obj = model("guards.bpf.c")
    copy = Btf(rewrite(btf_of(kernel)), source="copy")
    full = check_on([obj], [KernelTypes(Kernel.parse(kernel), btf_of(kernel))])
    assert check_on([obj], [KernelTypes(Kernel.parse(kernel), btf_of(kernel), copy)]) == full


def test_kernels_are_looked_at_one_by_one_or_together_alike() -> None:
    obj = model("globals.bpf.c")
    kernels = [KernelTypes(Kernel.parse(name), btf_of(name)) for name in kernel_btfs.EXAMPLES[:3]]
    together = check_on([obj], kernels)
    assert together.kernels == tuple(check_on([obj], [kernel]).kernels[0] for kernel in kernels)


def test_a_reason_in_json_has_the_keys_that_were_promised() -> None:
    from hatch_bpf.portability.text import render_json

    kernel = kernel_btfs.EXAMPLES[0]
    obj = model("guards.bpf.c")
    document = json.loads(render_json(check_on([obj], [KernelTypes(Kernel.parse(kernel), btf_of(kernel))])))
    assert list(document) == ["kernels", "not_checked"]
    (entry,) = document["kernels"]
    assert list(entry) == ["kernel", "programs"]
    assert entry["kernel"] == kernel
    for program in entry["programs"]:
        assert list(program) == ["object", "program", "verdict", "reasons"]
        assert program["verdict"] in {verdict.value for verdict in Verdict}
        for reason in program["reasons"]:
            assert list(reason) == ["kind", "message", "source"]


SINCE = {
    "newer_insns.bpf.c": {
        "sign_extending_move": (6, 6),
        "signed_division": (6, 6),
        "byte_swap": (6, 6),
        "sign_extending_load": (6, 6),
        "guarded_byte_swap": (6, 6),
        "guarded_sign_extending_load": (6, 6),
        "may_goto": (6, 9),
        "may_goto_in_dead_code": (6, 9),
        "load_acquire": (6, 15),
        "load_acquire_in_dead_code": (5, 12),
        "fetching_addition": (5, 12),
        "compare_and_exchange": (5, 12),
        "fetching_addition_in_dead_code": (5, 12),
    },
    "subprograms.bpf.c": {
        "global_of_pointer": (5, 12),
        "global_of_pointer_in_dead_code": (5, 12),
        "tail_call_beside": (5, 10),
        "tail_call_within": (5, 10),
    },
    "sleepable.bpf.c": {
        "sleepable_uprobe": (6, 0),
        "sleepable_uretprobe": (6, 0),
        "syscall_program": (5, 14),
        "sleepable_lsm": (5, 11),
    },
    "ring_that_overwrites.bpf.c": {"beside_the_map": (6, 19)},
}
"""The Linux that is the first to take a program; what the lab loads there agrees."""
SINCE_ARM64 = {"tail_call_beside": (6, 0), "tail_call_within": (6, 0), "sleepable_lsm": (6, 4)}


@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
@pytest.mark.parametrize("file", SINCE)
def test_what_came_with_one_kernel_fails_on_older_ones(file: str, kernel: str) -> None:
    since = {**SINCE[file], **(SINCE_ARM64 if "arm64" in kernel else {})}
    found = {program: found for (_, program), found in verdicts_on(kernel, model(file, "v3")).items()}
    for program in SINCE[file]:
        assert found[program].verdict.is_failure == (_version(kernel) < since[program]), found[program]


@pytest.mark.parametrize("section", ["fentry/vfs_read", "fexit/vfs_read", "lsm/file_open", "freplace", "kprobe/f"])
@pytest.mark.parametrize("kernel", [kernel for kernel in kernel_btfs.EXAMPLES if "arm64" in kernel])
def test_what_arm64_cannot_attach_is_said_to_load_there(kernel: str, section: str) -> None:
    """As docs/attaching.md has it: in place of BPF programs from Linux 6.0 on, of kernel functions from 6.4 on."""
    (found,) = verdicts_on(kernel, c_programs.model(f'SEC("{section}") int f(void *ctx) {{ return 0; }}')).values()
    told = [reason.what for reason in found.reasons if reason.kind is ReasonKind.ATTACH_UNSUPPORTED]
    since = {"freplace": (6, 0), "kprobe/f": (0, 0)}.get(section, (6, 4))
    assert bool(told) == (_version(kernel) < since)
    assert (found.verdict is Verdict.CANNOT_ATTACH) == bool(told)
    assert all("can never be attached: on arm64" in what for what in told)


OLD_KERNEL = """
struct bpf_reg_state { int precise; } a;
struct bpf_map_ops { int map_direct_value_addr; int map_mmap; } b;
struct bpf_verifier_state { int active_spin_lock; } c;
enum bpf_func_id { BPF_FUNC_get_prandom_u32 = 7 } d;
"""
"""As much of a kernel's BTF as tells kernels before Linux 5.5 apart."""


@pytest.mark.parametrize(
    ("lacks", "kinds"),
    [
        (["precise"], [ReasonKind.LOOPS_MISSING]),
        (["map_direct_value_addr"], [ReasonKind.TOO_LONG]),
        (["map_mmap"], [ReasonKind.MAP_FLAG_MISSING]),
        (["precise", "active_spin_lock"], [ReasonKind.INSN_MISSING, ReasonKind.LOOPS_MISSING]),
    ],
)
def test_what_kernels_before_5_5_lack(lacks: list[str], kinds: list[ReasonKind]) -> None:
    """No kernel of the example's is so old."""
    source = """struct { int (*type)[2]; int (*max_entries)[1]; int (*key_size)[4]; int (*value_size)[8];
        int (*map_flags)[1024]; } values SEC(".maps");
    SEC("socket") long program(void *ctx) {
        long sum = 0;
        #pragma clang loop unroll(disable)
        for (int i = 0; i < 10; i++) sum += ((u64 (*)(void))7)();
        asm volatile(".rept 4096\\n r0 = 0\\n .endr" ::: "r0");
        return (int)sum < -5;
    }"""
    obj = c_programs.model(source)
    older = reduce(lambda text, member: text.replace(member, "other"), lacks, OLD_KERNEL)
    for kernel, expected in ((OLD_KERNEL, []), (older, kinds)):
        (found,) = check_on([obj], [KernelTypes(host(), c_programs.kernel(kernel))]).kernels[0].programs
        failing = [reason.kind for reason in found.reasons if reason.weight is Weight.FAILS]
        assert failing == expected


def test_a_jump_back_that_closes_no_loop_is_none() -> None:
    source = """SEC("socket") long program(void *ctx) {
        asm volatile("goto +2; r0 = 1; goto +2; r0 = 2; goto -4; r0 = 3" ::: "r0");
        return 0;
    }"""
    obj = c_programs.model(source)
    kernel = c_programs.kernel("struct bpf_reg_state { int older; } a;")
    (found,) = check_on([obj], [KernelTypes(host(), kernel)]).kernels[0].programs
    assert ReasonKind.LOOPS_MISSING not in {reason.kind for reason in found.reasons}


@pytest.mark.parametrize(
    ("file", "program", "older", "newer"),
    [
        ("flavored_kfuncs.bpf.c", "beside_flavored_kfuncs", True, True),
        ("flavored_kfuncs.bpf.c", "guarded_flavored_kfunc", True, True),
        ("flavored_kfuncs.bpf.c", "flavored_kfunc", False, True),
        ("flavored_kfuncs.bpf.c", "guarded_kfunc_of_another_type", True, True),
        ("weak_wrong_kfunc.bpf.c", "beside_the_kfunc", False, True),
        ("weak_wrong_kfunc.bpf.c", "guarded", False, True),
        ("weak_wrong_kfunc.bpf.c", "unguarded", False, False),
    ],
)
def test_which_libbpf_finds_a_kfunc(file: str, program: str, older: bool, newer: bool) -> None:
    """As libbpf 1.1 and 1.7 do in the lab."""
    found = verdict("debian/12/x86_64/6.12.95+deb12-cloud-amd64", file, program)
    if older == newer:
        assert found.verdict is (Verdict.NEEDS_KERNEL_BTF if newer else Verdict.FAILS)
    else:
        assert found.verdict is Verdict.CONDITIONAL
        assert found.reasons[0].what.startswith("with libbpf before 1.3, this kernel")
        assert [loads_with_libbpf(found, has_flavors=has) for has in (False, True)] == [older, newer]


@pytest.mark.parametrize(("libbpf", "expected"), [((1, 1), Verdict.FAILS), ((1, 5), Verdict.NEEDS_KERNEL_BTF)])
def test_the_libbpf_of_the_wheel_decides_that(libbpf: tuple[int, int], expected: Verdict) -> None:
    kernel = "debian/12/x86_64/6.12.95+deb12-cloud-amd64"
    obj = model("flavored_kfuncs.bpf.c")
    report = Checker([obj], libbpf=libbpf).check(KernelTypes(Kernel.parse(kernel), btf_of(kernel)))
    found = next(found for found in report.programs if found.program == "flavored_kfunc")
    assert (found.verdict, [reason for reason in found.reasons if "with libbpf" in reason.what]) == (expected, [])
