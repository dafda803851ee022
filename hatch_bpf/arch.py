"""The table of architectures: the only place that knows how each world spells them.

Input: a name in anyone's spelling. Output: an `Arch`. Names are BTFHub's where BTFHub has the architecture.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Arch:
    """One target architecture of BPF objects and kernels."""

    name: str
    """BTFHub's folder name, and the value of the `archs` option."""
    machines: tuple[str, ...]
    """What `uname -m` may say there; the first is the usual one."""
    target_macro: str
    """X of `__TARGET_ARCH_X`, which libbpf's bpf_tracing.h selects registers by."""
    endian: Literal["little", "big"]

    @property
    def clang_target(self) -> str:
        """clang's `-target`, byte order spelled out so that the build machine's never matters."""
        return "bpfel" if self.endian == "little" else "bpfeb"


X86_64 = Arch("x86_64", ("x86_64", "amd64"), "x86", "little")
ARM64 = Arch("arm64", ("aarch64", "arm64"), "arm64", "little")
ARCHES: dict[str, Arch] = {
    arch.name: arch
    for arch in (
        X86_64,
        ARM64,
        Arch("arm", ("armv7l", "armv6l", "armhf"), "arm", "little"),
        Arch("i386", ("i686", "i386"), "x86", "little"),
        Arch("ppc64le", ("ppc64le",), "powerpc", "little"),
        Arch("riscv64", ("riscv64",), "riscv", "little"),
        Arch("s390x", ("s390x",), "s390", "big"),
        Arch("loongarch64", ("loongarch64",), "loongarch", "little"),
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
    for arch in ARCHES.values():
        if machine == arch.name or machine in arch.machines:
            return arch
    return None


def build_machine() -> Arch | None:
    """The architecture of the machine the build runs on: the default of `archs`; None where BPF has no such target."""
    return by_machine(platform.machine())
