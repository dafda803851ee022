"""Maps that a kernel cannot make: their types, sizes and keys; struct_ops."""

from __future__ import annotations

import pytest

from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.objects.uapi import map_type_name
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict, Weight
from tests.common import c_programs, kernel_btfs, needs
from tests.common.checked import (
    line_of,
    message_for,
    model,
    old_kernel,
    verdicts_on,
)
from tests.common.on_kernels import KernelTypes, check_on


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
