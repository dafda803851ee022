"""Architectures as a build knows them; their names and the spellings of `uname -m` are in runtime/host/arch.py.

Input: a name in anyone's spelling. Output: an `Arch`. Names are BTFHub's where BTFHub has the architecture.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Literal

from hatch_bpf.runtime.host import arch as runtime_arch


@dataclass(frozen=True)
class Arch:
    """One target architecture of BPF objects and kernels: what the runtime knows of it, and what a build needs."""

    name: str
    """BTFHub's folder name, and the value of the `archs` option."""
    target_macro: str
    """X of `__TARGET_ARCH_X`, which libbpf's bpf_tracing.h selects registers by."""
    endian: Literal["little", "big"] = "little"

    @property
    def machines(self) -> tuple[str, ...]:
        """What `uname -m` may say there; the first is the usual one."""
        return MACHINES[self.name]

    @property
    def clang_target(self) -> str:
        """clang's `-target`, byte order spelled out so that the build machine's never matters."""
        return "bpfel" if self.endian == "little" else "bpfeb"


MACHINES = {known.name: known.machines for known in runtime_arch.ARCHITECTURES}
X86_64 = Arch("x86_64", "x86")
ARM64 = Arch("arm64", "arm64")
ARCHES: dict[str, Arch] = {
    arch.name: arch
    for arch in (
        X86_64,
        ARM64,
        Arch("arm", "arm"),
        Arch("i386", "x86"),
        Arch("ppc64le", "powerpc"),
        Arch("riscv64", "riscv"),
        Arch("s390x", "s390", "big"),
        Arch("loongarch64", "loongarch"),
    )
}
"""Every architecture hatch-bpf knows, by name."""


BY_ELF_MACHINE = {
    3: "i386",
    21: "ppc64le",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "arm64",
    243: "riscv64",
    258: "loongarch64",
}
"""Names by `e_machine` of an ELF file."""
BY_PE_MACHINE = {
    0x14C: "i386",
    0x1C2: "arm",
    0x5064: "riscv64",
    0x6264: "loongarch64",
    0x8664: "x86_64",
    0xAA64: "arm64",
}
"""Names by the machine of a PE file, which a kernel with an EFI stub is."""


def by_machine(machine: str) -> Arch | None:
    """The architecture that `uname -m` or another spelling names, or None."""
    known = runtime_arch.of_machine(machine)
    return ARCHES[known.name] if known is not None else None


def build_machine() -> Arch | None:
    """The architecture of the machine the build runs on: the default of `archs`; None where BPF has no such target."""
    return by_machine(platform.machine())
