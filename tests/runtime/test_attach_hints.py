"""What is said of an attach that fails, beside the error number: by what kernels and libbpf answer.

The lines are libbpf 1.5's on Linux 4.15, 5.4 and 5.8. Where the running kernel answers alike, it is asked too.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import errors, privileges
from hatch_bpf.runtime.maps.shapes import BPF_MAP_TYPE_STRUCT_OPS, MapShape
from hatch_bpf.runtime.programs import attach_hints
from hatch_bpf.runtime.programs.attach_hints import attach_hint
from hatch_bpf.runtime.programs.links import Links, PlainLink, XdpLink
from hatch_bpf.runtime.structops import StructOps
from tests.common import needs
from tests.common.namespaces import own_loopback
from tests.common.skeleton_package import load_skeleton

OLD, NEW = (5, 4), (6, 18)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]) -> tuple[int, int]:
    monkeypatch.setattr(attach_hints, "linux_version", lambda: version)
    return version


@pytest.mark.parametrize("version", [OLD])
@pytest.mark.parametrize(
    ("code", "line", "section", "hint"),
    [
        (
            errno.EOPNOTSUPP,
            "prog 'p': user context value is not supported",
            "kprobe",
            "this kernel has no cookies: they came with Linux 5.15",
        ),
        (
            errno.ENOENT,
            "prog 'p': failed to create kprobe 'no_such+0x0' perf event: No such file or directory",
            "kprobe/no_such",
            "this kernel has no such function, or none to be probed; kernel_functions() lists those that can be",
        ),
        (
            errno.ENOENT,
            "prog 'p': failed to create kprobe '__se_sys_getppid+0x0' perf event: No such file or directory",
            "ksyscall/getppid",
            "libbpf looks for a system call by the name that it has since Linux 4.17; this kernel may have it as "
            'sys_getppid: attach_kprobe("sys_getppid")',
        ),
        (
            errno.EILSEQ,
            "prog 'p': failed to create kprobe 'do_unlinkat+0x4' perf event: Invalid or incomplete multibyte",
            "kprobe",
            "no instruction of the function starts there, or the kernel lets nobody probe it "
            "(/sys/kernel/debug/kprobes/blacklist)",
        ),
        (
            errno.EINVAL,
            "prog 'p': failed to create kretprobe 'do_unlinkat+0x4' perf event: Invalid argument",
            "kretprobe",
            "it is not the start of the function, or the kernel lets nobody probe it "
            "(/sys/kernel/debug/kprobes/blacklist)",
        ),
        (
            errno.ENOENT,
            "failed to determine tracepoint 'sched/no_such' perf event ID: No such file or directory",
            "tp/sched/no_such",
            "this kernel has no such tracepoint, or has not loaded the module with it; tracepoints() lists them",
        ),
        (
            errno.ENOENT,
            "prog 'p': failed to attach to raw tracepoint 'no_such': No such file or directory",
            "raw_tp/no_such",
            "this kernel has no such tracepoint, or has not loaded the module with it; tracepoints() lists them",
        ),
        (
            errno.EINVAL,
            "prog 'p': failed to attach to netns: Invalid argument",
            "flow_dissector",
            "network namespaces have links from Linux 5.8 on",
        ),
        (
            errno.EINVAL,
            "prog 'p': failed to attach to tcx: Invalid argument",
            "tcx/ingress",
            'tcx came with Linux 6.6. Write SEC("tc") and use attach_tc()',
        ),
        (
            errno.EINVAL,
            "prog 'p': failed to attach to netkit: Invalid argument",
            "tc",
            "netkit came with Linux 6.7",
        ),
        (
            errno.EOPNOTSUPP,
            "",
            "kprobe.multi/vfs_*",
            "it attaches as BPF_TRACE_KPROBE_MULTI, which this kernel may be too old for: it came with Linux 5.18. "
            'Write SEC("kprobe") and call attach_kprobe() for each function',
        ),
        (
            errno.EINVAL,
            "",
            "uretprobe.multi//bin/sh:main",
            "it attaches as BPF_TRACE_UPROBE_MULTI, which this kernel may be too old for: it came with Linux 6.6. "
            'Write SEC("uretprobe") and call attach_uprobe() for each function',
        ),
        (
            errno.EINVAL,
            "",
            "sk_skb/verdict",
            "it attaches as BPF_SK_SKB_VERDICT, which this kernel may be too old for: it came with Linux 5.13",
        ),
        (
            errno.EINVAL,
            "prog 'p': failed to create uprobe '/lib/libc.so.6:0x3b9aca00' perf event: Invalid argument",
            "uprobe",
            "the file has no instruction at this offset, or none that can be probed",
        ),
        (errno.EINVAL, "", "xdp", ""),
    ],
)
@pytest.mark.usefixtures("running")
def test_what_an_old_kernel_lacks_is_named(code: int, line: str, section: str, hint: str) -> None:
    assert attach_hint(code, [line], section) == hint


@pytest.mark.parametrize("version", [NEW])
@pytest.mark.usefixtures("running")
def test_a_new_kernel_is_not_called_too_old() -> None:
    for section in ("tcx/ingress", "kprobe.multi/vfs_*", "sk_skb/verdict"):
        assert attach_hint(errno.EINVAL, ["prog 'p': failed to attach: Invalid argument"], section) == ""
    assert attach_hint(errno.EINVAL, ["prog 'p': failed to attach to netns: Invalid argument"], "sk_lookup") == ""
    assert attach_hints.not_a_kernel_link(errno.EINVAL) == ""


@pytest.mark.parametrize("version", [OLD])
@pytest.mark.usefixtures("running")
def test_links_that_old_kernels_do_not_have() -> None:
    assert attach_hints.not_a_kernel_link(errno.EINVAL) == (
        "probes, tracepoints and perf events have kernel links from Linux 5.15 on"
    )
    assert attach_hints.not_a_kernel_link(errno.ENOENT) == ""
    program: Any = type("Program", (), {"name": "p"})()
    for kind, since in ((XdpLink, "XDP has links from Linux 5.9 on"), (PlainLink, "cgroups have links from Linux 5.7")):
        with pytest.raises(errors.AttachError, match=f"is not a kernel link, and has no descriptor; {since}"):
            _ = kind(program, "a place").fd


@pytest.mark.parametrize("version", [NEW])
@pytest.mark.parametrize("place", ["tcx", "netkit"])
@pytest.mark.usefixtures("running")
def test_a_section_that_does_not_say_where(place: str) -> None:
    line = f"prog 'p': failed to attach to {place}: Invalid argument"
    assert attach_hint(errno.EINVAL, [line], "tc").startswith(f'its section has to say where: write SEC("{place}/')


class _NoStructOps:
    """libbpf where the kernel's interface refuses a struct_ops map by EOPNOTSUPP, of which libbpf says nothing."""

    version = (1, 5)

    def libbpf_set_print(self, _function: int) -> None:
        pass

    def bpf_map__attach_struct_ops(self, _map: int) -> None:
        ctypes.set_errno(errno.EOPNOTSUPP)


def test_a_refused_struct_ops_map_is_not_said_to_lack_a_target() -> None:
    libbpf: Any = _NoStructOps()
    shape = MapShape(fd=-1, type=BPF_MAP_TYPE_STRUCT_OPS, key_size=4, value_size=4, max_entries=1, flags=0)
    refused = StructOps(libbpf, shape, "counting", pointer=1, links=Links())
    with pytest.raises(
        errors.AttachError, match=r"attached to the kernel: ENOTSUP: Operation not supported$"
    ) as caught:
        refused.attach()
    assert type(caught.value) is errors.AttachError


# --- the running kernel ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def skel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    needs.root_bpf()
    attachments = load_skeleton("attachments", tmp_path_factory.mktemp("attachments")).Attachments
    with attachments.open() as bpf:
        bpf.programs.optional.autoload = False
        with bpf.load() as loaded:
            yield loaded


def test_a_tracepoint_that_the_running_kernel_lacks(skel: Any) -> None:
    with pytest.raises(errors.AttachError, match="this kernel has no such tracepoint") as caught:
        skel.programs.on_raw_tracepoint.attach_raw_tracepoint("hatch_bpf_never")
    assert caught.value.errno == errno.ENOENT


def test_places_that_the_running_kernel_does_not_probe(skel: Any) -> None:
    needs.kprobes()
    probed = skel.programs.on_uprobe
    with pytest.raises(errors.AttachError, match="this kernel has no such function"):
        probed.attach_kprobe("hatch_bpf_never")
    # EILSEQ or EINVAL, by the kernel's version
    with pytest.raises(errors.AttachError, match="no instruction of the function starts there"):
        probed.attach_kprobe("vfs_read", offset=1 << 20)


def test_a_mode_of_xdp_that_a_driver_does_not_have(skel: Any) -> None:
    """Linux before 4.17 says EOPNOTSUPP and no word more, as libbpf does of a section without a target."""
    with own_loopback() as name, pytest.raises(errors.AttachError, match='mode="skb" works with any') as caught:
        skel.programs.on_xdp.attach_xdp(name, mode="driver")
    assert type(caught.value) is errors.AttachError


def test_a_link_that_cannot_change_its_program(skel: Any) -> None:
    libc, probed = ctypes.util.find_library("c"), skel.programs.on_uprobe
    attach = probed.attach_uprobe(libc, "getppid")
    with attach as link, pytest.raises(errors.AttachError, match="cannot change it at all"):
        link.update(probed)


def test_what_cannot_be_test_run(skel: Any) -> None:
    with pytest.raises(errors.AttachError, match=r"this kernel cannot test-run programs of type KPROBE$"):
        skel.programs.on_uprobe.test_run(bytes(64))
    with pytest.raises(errors.AttachError, match=r"which data= has to hold: 14 bytes or more$"):
        skel.programs.on_xdp.test_run(b"short")
    with pytest.raises(errors.AttachError, match="the kernel does not take this context: none at all"):
        skel.programs.on_tc.test_run(bytes(64), context=b"\x01" + bytes(191))


def test_the_version_of_the_running_kernel() -> None:
    major, minor = privileges.linux_version()
    assert os.uname().release.startswith(f"{major}.{minor}")


def test_what_a_map_does_not_take(tmp_path: Path) -> None:
    """By the map's type: of LPM tries only kernels before 4.16 say that, so this one is told to."""
    needs.root_bpf()
    with load_skeleton("sockmap", tmp_path).Sockmap.open() as bpf:
        loaded = bpf.load()
        with pytest.raises(errors.MapError, match=r"EBADF: Bad file descriptor; store a socket that is open$"):
            loaded.maps.sockets[0] = os.sysconf("SC_OPEN_MAX") - 1
    with load_skeleton("mapkinds", tmp_path).Mapkinds.open() as bpf, bpf.load() as loaded:
        ctypes.set_errno(errors.ENOTSUPP)
        told = str(loaded.maps.routes._error("be iterated over"))
        assert told.endswith("; kernels before 4.16 do not list the keys of an LPM trie")
