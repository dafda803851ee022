"""What a running skeleton must know about each architecture. Input: what `uname -m` says. Output: an `Architecture`."""

from __future__ import annotations

import os

from ..plain_data import PlainData

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


class Architecture(PlainData):
    """An architecture, under the name that BTFHub files it under."""

    name: str
    machines: tuple[str, ...]
    """What `uname -m` may say there; the first is the usual one."""
    perf_event_open: int
    """Number of this system call, for which libc has no function."""
    memfd_create: int
    """Number of this system call, for which old Pythons and C libraries have no function."""
    bpf: int
    """Number of this system call; libbpf has functions for most of what it does."""


ARCHITECTURES = (
    Architecture("x86_64", ("x86_64", "amd64"), perf_event_open=298, memfd_create=319, bpf=321),
    Architecture("arm64", ("aarch64", "arm64"), perf_event_open=241, memfd_create=279, bpf=280),
    Architecture("arm", ("armv7l", "armv6l", "armhf"), perf_event_open=364, memfd_create=385, bpf=386),
    Architecture("i386", ("i686", "i386"), perf_event_open=336, memfd_create=356, bpf=357),
    Architecture("ppc64le", ("ppc64le",), perf_event_open=319, memfd_create=360, bpf=361),
    Architecture("riscv64", ("riscv64",), perf_event_open=241, memfd_create=279, bpf=280),
    Architecture("s390x", ("s390x",), perf_event_open=331, memfd_create=350, bpf=351),
    Architecture("loongarch64", ("loongarch64",), perf_event_open=241, memfd_create=279, bpf=280),
)


def of_machine(machine: str) -> Optional[Architecture]:
    """The architecture that `uname -m` or BTFHub names, or None."""
    return next((arch for arch in ARCHITECTURES if machine in (arch.name, *arch.machines)), None)


def running() -> Optional[Architecture]:
    """The architecture of this machine, or None if it is none of these."""
    return of_machine(os.uname().machine)


def running_name() -> str:
    """The name of this machine's architecture: BTFHub's, or else what `uname -m` says."""
    arch = running()
    return arch.name if arch is not None else os.uname().machine
