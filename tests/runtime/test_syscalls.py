"""Names of system calls, as the headers of the kernel's UAPI have their numbers."""

from __future__ import annotations

import re
import subprocess

import pytest

from hatch_bpf.arch import build_machine
from hatch_bpf.runtime import syscall_name
from hatch_bpf.runtime.host.arch import ARCHITECTURES, Architecture
from hatch_bpf.runtime.system.syscalls import _TABLES, numbers_of
from tests.common import needs

LAST = 470
"""The newest call that is in the tables; the machine's headers may have newer ones."""
GENERIC = ("arm64", "riscv64", "loongarch64")
WANTED = ("RENAMEAT", "NEW_STAT", "SET_GET_RLIMIT", "SYS_CLONE3", "MEMFD_SECRET")
"""What arm64 defines (`__ARCH_WANT_...`) before it includes the header of all newer architectures."""


def numbers(header: str) -> dict[int, str]:
    """What a header of the UAPI defines."""
    defined = ["-D__BITS_PER_LONG=64", *(f"-D__ARCH_WANT_{name}" for name in WANTED)] if "generic" in header else []
    command = [needs.tool("clang"), "-E", "-P", *defined, "-"]

    def preprocessed(text: str, *options: str) -> str:
        text = f"#include <{header}>\n{text}"
        return subprocess.run([*command, *options], input=text, capture_output=True, text=True, check=True).stdout

    names = set(re.findall(r"#define __NR_(\w+) ", preprocessed("", "-dM"))) - {"syscalls", "arch_specific_syscall"}
    lines = preprocessed("\n".join(f'"{name}" __NR_{name}' for name in sorted(names)))
    return {int(number): name for name, number in re.findall(r'"(\w+)" (\d+)', lines)}


def test_this_machines_calls() -> None:
    arch = build_machine()
    assert arch is not None
    defined = {number: name for number, name in numbers("asm/unistd.h").items() if number <= LAST}
    assert len(defined) > 250
    assert {number: syscall_name(number) for number in defined} == defined


@pytest.mark.parametrize("arch", GENERIC)
def test_calls_of_newer_architectures(arch: str) -> None:
    defined = {number: name for number, name in numbers("asm-generic/unistd.h").items() if number <= LAST}
    assert len(defined) > 250
    assert {number: numbers_of(arch)[number] for number in defined} == defined


@pytest.mark.parametrize(("arch", "openat", "execve", "statx"), [("s390x", 288, 11, 379), ("ppc64le", 286, 11, 383)])
def test_calls_of_older_architectures(arch: str, openat: int, execve: int, statx: int) -> None:
    """Those that machines have no headers of: some calls from each end of the table, as glibc's lists have them."""
    names = [numbers_of(arch)[number] for number in (3, 4, execve, openat, statx, 424, 435)]
    assert names == ["read", "write", "execve", "openat", "statx", "pidfd_send_signal", "clone3"]


@pytest.mark.parametrize("arch", [each for each in ARCHITECTURES if each.name in _TABLES], ids=lambda arch: arch.name)
def test_system_calls_that_the_runtime_makes_itself(arch: Architecture) -> None:
    known = numbers_of(arch.name)
    own = [known[number] for number in (arch.perf_event_open, arch.memfd_create, arch.bpf)]
    assert own == ["perf_event_open", "memfd_create", "bpf"]


def test_what_has_no_name() -> None:
    assert [syscall_name(number) for number in (4000, -1)] == ["[unknown: 4000]", "[unknown: -1]"]
    assert numbers_of("i386") == {}
