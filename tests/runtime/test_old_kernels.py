"""What the runtime does on kernels that are older than any that the lab boots, with a stand-in for libbpf."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from hatch_bpf.runtime import globals as sections
from hatch_bpf.runtime.libbpf import library, messages
from hatch_bpf.runtime.programs.links import Links
from hatch_bpf.runtime.programs.program import Program
from hatch_bpf.runtime.spec import SectionSpec
from hatch_bpf.runtime.types import CStruct
from tests.common import needs
from tests.common.namespaces import own_cgroup, own_loopback
from tests.common.skeleton_package import load_skeleton


class _NoMap:
    """libbpf where the kernel has no global variables."""

    def __init__(self, *, fd: int, autocreate: bool | None) -> None:
        self._fd, self._autocreate = fd, autocreate

    def has(self, _name: str) -> bool:
        return self._autocreate is not None

    def bpf_map__autocreate(self, _pointer: int) -> bool | None:
        return self._autocreate

    def bpf_map__fd(self, _pointer: int) -> int:
        return self._fd


@pytest.mark.parametrize(("fd", "autocreate"), [(-1, None), (-1, True), (7, False)])
def test_a_section_without_a_map_is_missing(fd: int, autocreate: bool | None) -> None:
    """Before Linux 5.2 libbpf makes no map: it has no descriptor, or from 1.4 on autocreate off.

    The stand-in is faithful in that these answers are all that the runtime asks for; any other call would fail here.
    """
    libbpf: Any = _NoMap(fd=fd, autocreate=autocreate)
    section, part = sections.loaded_section(libbpf, 0, SectionSpec(".bss", "bss", CStruct))
    assert part is None
    with pytest.raises(errors.UnknownNameError, match=r"\.bss is not on this kernel.*Linux 5\.2"):
        _ = section.counter
    with pytest.raises(errors.UnknownNameError, match=r"\.bss is not on this kernel"):
        section.counter = 1


EINVAL = 22


class _OldXdp:
    """libbpf's functions for XDP on the running kernel, as far as Linux before 5.7 has them.

    There the netlink message has no IFLA_XDP_EXPECTED_FD: do_setlink() takes XDP_FLAGS_REPLACE for an unknown flag and
    answers EINVAL. Before 4.19 it has no IFLA_XDP_SKB_PROG_ID either, so that libbpf finds no program when it is asked
    for a mode's. All else goes to libbpf, so that the program really comes and goes.
    """

    def __init__(self, libbpf: Any) -> None:
        self._real = libbpf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def bpf_xdp_attach(self, ifindex: int, fd: int, flags: int, options: Any) -> int:
        return self._refuse() if options is not None else int(self._real.bpf_xdp_attach(ifindex, fd, flags, None))

    def bpf_xdp_query_id(self, ifindex: int, flags: int, found: Any) -> int:
        error = int(self._real.bpf_xdp_query_id(ifindex, flags, found))
        if flags:
            found._obj.value = 0
        return error

    def _refuse(self) -> int:
        ctypes.set_errno(EINVAL)
        return -1


def xdp_there(index: int) -> int:
    """The id of the program on an interface; 0 for none."""
    found = ctypes.c_uint32()
    assert library.load().bpf_xdp_query_id(index, 0, ctypes.byref(found)) == 0
    return found.value


@pytest.fixture
def packets(tmp_path: Path) -> Iterator[Any]:
    needs.root_bpf()
    skeleton = load_skeleton("old_attach", tmp_path)
    with skeleton.OldAttach.open() as bpf, bpf.load() as skel:
        yield skel


@pytest.fixture
def loopback() -> Iterator[str]:
    with own_loopback() as name:
        yield name


@pytest.mark.parametrize("mode", ["auto", "skb"])
def test_xdp_is_detached_where_the_kernel_cannot_be_told_which_program(packets: Any, loopback: str, mode: str) -> None:
    """Before 5.7: a plain attach and detach, after a look whether the program is still there."""
    index = socket.if_nametoindex(loopback)
    first, second = packets.programs.on_packet, packets.programs.on_packet_too
    for program in (first, second):
        program._libbpf = _OldXdp(program._libbpf)
    link = first.attach_xdp(loopback, mode=mode, replace=True)
    assert xdp_there(index) == first.info().id
    link.update(second)
    assert xdp_there(index) == second.info().id
    link.detach()
    assert xdp_there(index) == 0


def test_another_program_that_took_the_place_of_ours_stays(packets: Any, loopback: str) -> None:
    index = socket.if_nametoindex(loopback)
    first, second = packets.programs.on_packet, packets.programs.on_packet_too
    first._libbpf = _OldXdp(first._libbpf)
    link = first.attach_xdp(loopback, replace=True)
    other = second.attach_xdp(loopback, replace=True)
    link.detach()
    assert xdp_there(index) == second.info().id
    other.detach()
    assert xdp_there(index) == 0


class _NoCgroupLinks:
    """libbpf where the kernel has no links for cgroups.

    BPF_LINK_CREATE came with 5.7; the bpf() call of older kernels answers EINVAL for a command that it does not know.
    BPF_PROG_ATTACH, which is used instead, is the running kernel's own.
    """

    def __init__(self, libbpf: Any) -> None:
        self._real = libbpf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def bpf_program__attach_cgroup(self, _program: int, _cgroup: int) -> None:
        ctypes.set_errno(EINVAL)


def test_a_cgroup_without_links(packets: Any) -> None:
    with own_cgroup() as cgroup:
        program = packets.programs.on_egress
        program._libbpf = _NoCgroupLinks(program._libbpf)
        link = program.attach_cgroup(cgroup)
        assert attached_to(cgroup) == [program.info().id]
        link.detach()
        assert attached_to(cgroup) == []


class _NoCookies:
    """libbpf where the kernel has no cookies, before Linux 5.15: it attaches to a library in one process only."""

    def __init__(self, libbpf: Any) -> None:
        self._real = libbpf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def bpf_program__attach(self, _program: int) -> None:
        os.write(messages.shared().sinks[messages.WARN]._as_parameter_, b"libbpf: usdt: attaching without a PID ...\n")
        ctypes.set_errno(errno.EOPNOTSUPP)

    def bpf_program__attach_usdt(self, program: int, *_where: Any) -> None:
        self.bpf_program__attach(program)


def test_a_usdt_of_a_library_needs_a_process(tmp_path: Path) -> None:
    """attach() passes over it as little as the method does: its target is known, and the kernel can't be told it."""
    needs.root_bpf()
    with load_skeleton("usdt", tmp_path).Usdt.open() as bpf, bpf.load() as skel:
        program = skel.programs.on_usdt
        program._libbpf = _NoCookies(program._libbpf)
        for attach in (lambda: program.attach_usdt("/lib/libx.so", "provider", "name"), skel.attach):
            with pytest.raises(errors.AttachError, match=r"(?s)before Linux 5\.15 .*pid=PID.*attaching without a PID"):
                attach()


class _NoLinksToReplace:
    """libbpf where BPF_LINK_CREATE makes no links for programs that replace a function, before Linux 5.10.

    It answers EINVAL, after which libbpf gives up. BPF_RAW_TRACEPOINT_OPEN is the running kernel's own.
    """

    def __init__(self, libbpf: Any) -> None:
        self._real = libbpf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def bpf_program__attach(self, _program: int) -> None:
        ctypes.set_errno(EINVAL)


def test_a_function_is_replaced_without_link_create(tmp_path: Path) -> None:
    needs.program_kind("fentry/vfs_fsync")  # both are made of trampolines
    skeleton = load_skeleton("kinds", tmp_path).Kinds
    with skeleton.open() as first, skeleton.open() as second:
        first.programs.with_function.autoload = True
        whole = first.load()
        target = whole.programs.with_function
        second.programs.replacement.autoload = True
        second.programs.replacement.set_attach_target("replaceable", program_fd=target.fd)
        part = second.load()
        replacement = part.programs.replacement
        replacement._libbpf = _NoLinksToReplace(replacement._libbpf)
        before = target.test_run(b"\x01" * 64).result
        with replacement.attach():
            assert target.test_run(b"\x01" * 64).result != before
        assert target.test_run(b"\x01" * 64).result == before


class _Descriptors:
    """libbpf as it answers for a loaded program that replaces a function, before Linux 5.10. Nothing else is asked."""

    version = (1, 5)

    def __init__(self) -> None:
        self.opened: list[int] = []

    def bpf_program__autoload(self, _program: int) -> int:
        return 1

    def bpf_program__fd(self, _program: int) -> int:
        return 0

    def libbpf_set_print(self, _function: int) -> None:
        pass

    def bpf_program__attach(self, _program: int) -> None:
        ctypes.set_errno(EINVAL)

    def bpf_raw_tracepoint_open(self, name: bytes | None, program: int) -> int:
        assert name is None
        self.opened.append(os.dup(program))
        return self.opened[-1]


def test_the_link_of_a_replaced_function_is_the_tracepoints() -> None:
    libbpf: Any = _Descriptors()
    program = Program(libbpf, 1, "p", "freplace/f", links=Links())
    link = program.attach()
    assert libbpf.opened == [link.fd]
    link.detach()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(libbpf.opened[0])


def attached_to(cgroup: Path) -> list[int]:
    said = subprocess.run(
        [needs.tool("bpftool"), "-j", "cgroup", "show", cgroup], capture_output=True, text=True, check=True
    ).stdout
    return [item["id"] for item in json.loads(said.strip() or "[]")]


def test_maps_of_static_data_can_be_mapped_too(tmp_path: Path) -> None:
    """libbpf before 1.5 flips BPF_F_MMAPABLE on the maps of sections where the kernel does not know it, before 5.5.

    So what has the flag loses it, and what lacks it would get it. This asks libbpf which flags its maps have.
    """
    needs.root_bpf()
    skeleton = load_skeleton("old_attach", tmp_path)
    with skeleton.OldAttach.open() as bpf:
        libbpf, held = bpf._held.libbpf, bpf._held
        texts = held.find_map(".rodata")
        assert (libbpf.version < (1, 5)) == bool(libbpf.bpf_map__map_flags(texts) & sections.BPF_F_MMAPABLE)
        bpf.load()
