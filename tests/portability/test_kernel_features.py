"""What a kernel's BTF says it has, against what libbpf finds out by trying."""

from __future__ import annotations

import ctypes
from dataclasses import astuple
from pathlib import Path

import pytest

from hatch_bpf.btf import types as t
from hatch_bpf.btf.excerpt import Excerpt, RecordedBtf
from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects import uapi
from hatch_bpf.portability.context_check import CONTEXTS
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.verifier.abilities import Verifier
from tests.common import kernel_btfs, needs
from tests.common.btf_builder import RawBtf
from tests.common.libbpf_load import LIBRARY


@pytest.fixture(scope="module")
def host() -> KernelFeatures:
    return KernelFeatures(Btf(needs.host_btf().read_bytes(), source="host"))


@pytest.fixture(scope="module")
def probes() -> ctypes.CDLL:
    needs.root_bpf()
    needs.libbpf()
    library = ctypes.CDLL(LIBRARY)
    library.libbpf_set_print(None)
    return library


def of(btf: RawBtf) -> KernelFeatures:
    return KernelFeatures(Btf(btf.build(), source="test"))


def test_map_types_that_can_be_created_are_known(host: KernelFeatures, probes: ctypes.CDLL) -> None:
    known = host.map_types
    assert known is not None
    created = {number for number in range(1, 40) if probes.libbpf_probe_bpf_map_type(number, None) == 1}
    assert len(created) > 25
    assert created <= known
    assert max(known) + 1 not in created


def test_program_types_that_can_be_loaded_are_known(host: KernelFeatures, probes: ctypes.CDLL) -> None:
    assert host.program_types is not None
    (type_id,) = host.btf.find("bpf_prog_type", t.Kind.ENUM)
    enum = host.btf[type_id]
    assert isinstance(enum, t.Enum)
    names = {value.value: value.name.removeprefix("BPF_PROG_TYPE_") for value in enum.values}
    loaded = {names.get(number) for number in range(1, 40) if probes.libbpf_probe_bpf_prog_type(number, None) == 1}
    assert len(loaded) > 20
    assert loaded <= host.program_types


def test_helpers_that_can_be_called_are_known(host: KernelFeatures, probes: ctypes.CDLL) -> None:
    known = host.helpers
    assert known is not None
    for program_type in (2, 3):  # KPROBE, SCHED_CLS
        callable_ = {n for n in range(1, 240) if probes.libbpf_probe_bpf_helper(program_type, n, None) == 1}
        assert len(callable_) > 50
        assert callable_ <= known


def test_names_for_messages_are_the_kernels(host: KernelFeatures) -> None:
    (type_id,) = host.btf.find("bpf_func_id", t.Kind.ENUM)
    enum = host.btf[type_id]
    assert isinstance(enum, t.Enum)
    helpers = {value.value: value.name for value in enum.values if not value.name.startswith("__")}
    assert {number: uapi.helper_enumerator(number) for number in helpers if number} == {
        number: name for number, name in helpers.items() if number
    }
    (type_id,) = host.btf.find("bpf_map_type", t.Kind.ENUM)
    enum = host.btf[type_id]
    assert isinstance(enum, t.Enum)
    map_types: dict[int, set[str]] = {}
    for value in enum.values:
        map_types.setdefault(value.value, set()).add(value.name)
    for number, names in map_types.items():
        assert uapi.map_type_name(number) in names or any(name.startswith("__") for name in names)


def test_functions_and_tracepoints(host: KernelFeatures) -> None:
    symbols = {line.split()[2] for line in Path("/proc/kallsyms").read_text().splitlines()}
    for name in ("vfs_read", "tcp_v4_connect", "hatch_bpf_never"):
        assert host.has_function(name) == (name in symbols)
    assert host.has_tracepoint("sched_switch") is True
    assert host.has_tracepoint("hatch_bpf_never") is False


def test_arguments(host: KernelFeatures) -> None:
    assert host.arguments("vfs_read") == 4
    assert host.arguments("btf_trace_sched_process_fork") == 2
    assert host.arguments("hatch_bpf_never") is None


def test_whether_a_check_is_told_reads_from_writes() -> None:
    """A FUNC that is none, one without its parameters, and none at all tell of no ability."""
    for change in (lambda btf: btf.func("check_stack_range_initialized", 1), lambda _: None):
        btf = RawBtf()
        btf.integer()
        change(btf)
        assert not of(btf).verifier.spares_what_is_read
    for enum, spares in (("bpf_access_src", False), ("bpf_access_type", True)):
        btf = RawBtf()
        btf.integer()
        access = btf.enum(enum, A=1)
        btf.func("check_stack_range_initialized", btf.func_proto(1, ("off", 1), ("type", access)))
        assert of(btf).verifier.spares_what_is_read == spares


def test_types_of_functions_and_variables() -> None:
    btf = RawBtf()
    number = btf.integer()
    proto = btf.func_proto(number)
    btf.func("call", proto)
    btf.var("flag", number)
    found = of(btf)
    assert [found.type_of(name, t.Kind.FUNC) for name in ("call", "flag", "none")] == [proto, None, None]
    assert [found.type_of(name, t.Kind.VAR) for name in ("flag", "call")] == [number, None]


def test_an_excerpt_tells_the_same() -> None:
    """Of what the verifier knows and externs are like, all is in the few types that are kept of a kernel."""

    def told(btf: Btf) -> list[object]:
        found = KernelFeatures(btf)
        names = ("bpf_task_acquire", "vfs_read", "hatch_bpf_never")
        types = [*(found.type_of(name, t.Kind.FUNC) for name in names), found.type_of("runqueues", t.Kind.VAR)]
        places = [found.places_in(name) for name in CONTEXTS.values()]
        helpers = [found.has_helper(number) for number in range(1, 212)]
        return [found.verifier, places, helpers, *(type_id and type(btf.resolve(type_id)[1]) for type_id in types)]

    name = kernel_btfs.EXAMPLES[-1]
    whole = RecordedBtf(kernel_btfs.read(name), source=name)
    assert told(whole) == told(Excerpt(whole.pack(), source=name))


def test_arguments_that_take_several_places() -> None:
    btf = RawBtf()
    number = btf.integer()
    big = btf.struct("big", 16, ("a", number, 0))
    btf.func("by_value", btf.func_proto(0, ("a", big)))
    btf.func("twice", btf.func_proto(0, ("a", number)))
    btf.func("twice", btf.func_proto(0, ("a", number), ("b", number)))
    btf.func("plain", btf.func_proto(0, ("a", number), ("b", btf.ptr(big))))
    btf.func("of_no_function", number)
    btf.typedef("btf_trace_no_pointer", number)
    btf.typedef("btf_trace_no_function", btf.ptr(number))
    found = of(btf)
    assert [found.arguments(name) for name in ("by_value", "twice", "plain")] == [None, None, 2]
    for name in ("of_no_function", "btf_trace_no_pointer", "btf_trace_no_function"):
        assert found.arguments(name) is None


def test_a_btf_that_cannot_tell_says_so() -> None:
    btf = RawBtf()
    btf.integer()
    found = of(btf)
    assert (found.helpers, found.map_types, found.program_types, found.attach_types) == (None,) * 4
    assert found.has_function("vfs_read") is None
    assert found.has_tracepoint("sched_switch") is None
    assert found.has_kfunc("bpf_task_acquire") is None


def test_the_enumerator_that_counts_the_others_is_no_feature() -> None:
    btf = RawBtf()
    btf.enum("bpf_func_id", BPF_FUNC_unspec=0, BPF_FUNC_map_lookup_elem=1, __BPF_FUNC_MAX_ID=2)
    btf.enum("bpf_attach_type", BPF_CGROUP_INET_INGRESS=0, __MAX_BPF_ATTACH_TYPE=1)
    found = of(btf)
    assert found.helpers == frozenset({0, 1})
    assert found.attach_types == frozenset({"BPF_CGROUP_INET_INGRESS"})


def test_kfuncs_are_tagged_where_any_is() -> None:
    btf = RawBtf()
    proto = btf.func_proto(0)
    btf.func("schedule", proto)
    btf.func("bpf_task_acquire", proto)
    untagged = of(btf)
    assert [untagged.has_kfunc(name) for name in ("bpf_task_acquire", "schedule", "nope")] == [True, True, False]
    btf.decl_tag("bpf_kfunc", 3)
    tagged = of(btf)
    assert [tagged.has_kfunc(name) for name in ("bpf_task_acquire", "schedule", "nope")] == [True, False, False]


def test_verifiers_get_no_less_able_with_time() -> None:
    """Debian backports no BPF into its kernels, so versions order what its verifiers know."""
    by_version = sorted(kernel_btfs.EXAMPLES, key=lambda name: [int(n) for n in name.rsplit("/", 1)[1].split(".")[:2]])
    abilities = [KernelFeatures(Btf(kernel_btfs.read(name), source=name)).verifier for name in by_version]
    counts = [sum(astuple(verifier)) for verifier in abilities]
    assert counts == sorted(counts)
    assert abilities[0] == Verifier(
        follows_small_spills=False,
        follows_immediate_stores=False,
        skips_uncalled_globals=False,
        spares_what_is_read=False,
    )
    assert abilities[-1] == Verifier()
