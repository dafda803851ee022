"""SEC() names, against libbpf's own libbpf_prog_type_by_name()."""

from __future__ import annotations

import ctypes
import ctypes.util

import pytest

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.runtime.host.arch import running_name
from hatch_bpf.runtime.sections import ATTACH_TYPES, AttachTypeUse, Target, parse_section, section_patterns
from hatch_bpf.support.own_libbpf import OWN_LIBBPF
from tests.common import needs


@pytest.fixture(scope="module", params=["the system's", "our own"])
def library(request: pytest.FixtureRequest) -> ctypes.CDLL:
    """A libbpf. Ours is newer than those of most distributions."""
    if request.param == "our own":
        needs.own_libbpf()
        path: str | None = str(OWN_LIBBPF / "lib" / running_name() / "glibc" / "libbpf.so.1")
    else:
        path = ctypes.util.find_library("bpf")
    if path is None:
        needs.missing("libbpf.so is not installed")
        raise AssertionError
    library = ctypes.CDLL(path)
    library.libbpf_set_print(None)
    return library


def _enumerators(btf: Btf, name: str) -> dict[str, int]:
    (type_id,) = btf.find(name, t.Kind.ENUM)
    enum = btf[type_id]
    assert isinstance(enum, t.Enum)
    return {value.name: value.value for value in enum.values}


def _names() -> list[str]:
    names = []
    for pattern in section_patterns():
        prefix, plus, _ = pattern.partition("+")
        names += [prefix, f"{prefix}/some_target"] if plus else [prefix]
    return names


@pytest.fixture(scope="module")
def by_libbpf(library: ctypes.CDLL) -> dict[str, tuple[int, int]]:
    """What a libbpf takes each name for; names that it doesn't know are left out."""
    found = {}
    for name in _names():
        program_type, attach_type = ctypes.c_int(), ctypes.c_int()
        if library.libbpf_prog_type_by_name(name.encode(), ctypes.byref(program_type), ctypes.byref(attach_type)) == 0:
            found[name] = (program_type.value, attach_type.value)
    return found


def test_every_name_means_what_it_means_to_libbpf(by_libbpf: dict[str, tuple[int, int]]) -> None:
    btf = Btf(needs.host_btf().read_bytes(), source="host")
    program_types = _enumerators(btf, "bpf_prog_type")
    attach_types = _enumerators(btf, "bpf_attach_type")
    # libbpf from 1.3 on takes tc/ingress for tcx; before, it gives it no attach type
    since_1_3 = {"tc/ingress", "tc/egress"}
    assert len(by_libbpf) > 70, "libbpf knows hardly any of the names"
    for name, (program_type, attach_type) in by_libbpf.items():
        section = parse_section(name)
        assert section is not None
        assert program_types[f"BPF_PROG_TYPE_{section.program_type}"] == program_type, name
        if section.attach_type and section.attach_type not in attach_types:
            # of a kernel newer than this one
            assert attach_type >= attach_types["__MAX_BPF_ATTACH_TYPE"], name
        elif attach_type or name not in since_1_3:
            assert attach_types.get(section.attach_type, 0) == attach_type, name


def test_libbpf_knows_no_name_that_the_table_lacks(library: ctypes.CDLL) -> None:
    """libbpf lists the types it knows only in its log of a failed guess; the list must be covered."""
    lines: list[str] = []
    printer = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)

    libc = ctypes.CDLL(None)
    libc.vsnprintf.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]

    def take(_level: int, fmt: bytes, args: int) -> int:
        buffer = ctypes.create_string_buffer(1 << 16)
        libc.vsnprintf(buffer, len(buffer), fmt, args)
        lines.append(buffer.value.decode())
        return 0

    callback = printer(take)
    library.libbpf_set_print(callback)
    try:
        library.libbpf_prog_type_by_name(b"no_such_section", ctypes.byref(ctypes.c_int()), ctypes.byref(ctypes.c_int()))
    finally:
        library.libbpf_set_print(None)
    listed = next(line for line in lines if "supported section(type) names are" in line)
    names = listed.split("names are:", 1)[1].split()
    assert len(names) > 50
    unknown = [name for name in names if parse_section(name.removesuffix("+")) is None]
    assert unknown == []


@pytest.mark.parametrize(
    "name", ["", "nope", "tc/whatever", "fentry.x/f", "kprobes/f", "xdp/other", "socket1", "cgroup/"]
)
def test_names_that_libbpf_does_not_know(library: ctypes.CDLL, name: str) -> None:
    assert library.libbpf_prog_type_by_name(name.encode(), ctypes.byref(ctypes.c_int()), ctypes.byref(ctypes.c_int()))
    assert parse_section(name) is None


def test_the_numbers_of_attach_types_are_the_kernels() -> None:
    btf = Btf(needs.host_btf().read_bytes(), source="host")
    assert ATTACH_TYPES.items() <= _enumerators(btf, "bpf_attach_type").items()


def test_targets() -> None:
    def target(name: str) -> tuple[str, str, str]:
        section = parse_section(name)
        assert section is not None
        return section.target_kind, section.target, section.module

    assert target("fentry/tcp_close") == (Target.BTF_FUNCTION, "tcp_close", "")
    assert target("?fentry/tcp_close") == (Target.BTF_FUNCTION, "tcp_close", "")
    assert target("fexit.s/nf_conntrack:nf_ct_delete") == (Target.BTF_FUNCTION, "nf_ct_delete", "nf_conntrack")
    assert target("fexit.multi.s/tcp_*") == (Target.BTF_FUNCTIONS, "tcp_*", "")
    assert target("tp_btf.s/sys_enter") == (Target.BTF_TRACEPOINT, "sys_enter", "")
    assert target("raw_tp.s/sys_enter") == (Target.RAW_TRACEPOINT, "sys_enter", "")
    assert target("fentry") == (Target.BTF_FUNCTION, "", "")
    assert target("tp_btf/sched_switch") == (Target.BTF_TRACEPOINT, "sched_switch", "")
    assert target("lsm/file_open") == (Target.LSM_HOOK, "file_open", "")
    assert target("iter/task") == (Target.ITERATOR, "task", "")
    assert target("raw_tp/sched_switch") == (Target.RAW_TRACEPOINT, "sched_switch", "")
    assert target("kprobe/tcp_close") == (Target.FUNCTION, "tcp_close", "")
    assert target("ksyscall/openat") == (Target.SYSCALL, "openat", "")
    assert target("uprobe//usr/lib/libc.so.6:malloc") == (Target.BINARY, "/usr/lib/libc.so.6:malloc", "")


@pytest.mark.parametrize(
    "name",
    [
        "fentry/f",
        "fentry.multi/f*",
        "fexit/f",
        "fmod_ret/f",
        "tp_btf/t",
        "lsm/h",
        "lsm_cgroup/h",
        "iter/task",
        "struct_ops/init",
    ],
)
def test_what_needs_the_kernels_own_btf(name: str) -> None:
    section = parse_section(name)
    assert section is not None
    assert section.needs_kernel_btf


@pytest.mark.parametrize("name", ["kprobe/f", "tracepoint/a/b", "raw_tp/t", "xdp", "sockops", "freplace/f", "socket"])
def test_what_an_embedded_btf_serves(name: str) -> None:
    section = parse_section(name)
    assert section is not None
    assert not section.needs_kernel_btf


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("tp.s/syscalls/sys_enter_read", "tp/syscalls/sys_enter_read"),
        ("tracepoint.s/syscalls/sys_exit_read", "tracepoint/syscalls/sys_exit_read"),
        ("raw_tp.s/sys_enter", "raw_tp/sys_enter"),
        ("raw_tracepoint.s/sys_enter", "raw_tracepoint/sys_enter"),
        ("tp_btf.s/sys_enter", "tp_btf/sys_enter"),
    ],
)
def test_tracepoints_sleep_from_libbpf_1_8_on(name: str, plain: str) -> None:
    sleeps, other = parse_section(name), parse_section(plain)
    assert sleeps is not None
    assert other is not None
    assert (sleeps.sleepable, sleeps.since, other.sleepable, other.since) == (True, (1, 8), False, (0, 0))
    assert (sleeps.program_type, sleeps.attach_type, sleeps.target) == (
        other.program_type,
        other.attach_type,
        other.target,
    )


def test_an_attach_type_says_when_it_is_looked_at() -> None:
    assert all(
        (section.attach_type == "") == (section.attach_type_use == AttachTypeUse.NONE)
        for section in map(parse_section, _names())
        if section is not None
    )
