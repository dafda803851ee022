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
    """One target architecture of BPF objects and kernels: what a build needs to know besides what the runtime knows."""

    name: str
    """BTFHub's folder name, and the value of the `archs` option."""
    target_macro: str
    """X of `__TARGET_ARCH_X`, which libbpf's bpf_tracing.h selects registers by."""
    elf_machine: int
    """`e_machine` of its ELF files."""
    pe_machine: int = 0
    """The machine of its PE files, which a kernel with an EFI stub is; 0 if it has none."""
    endian: Literal["little", "big"] = "little"

    @property
    def clang_target(self) -> str:
        """clang's `-target`, byte order spelled out so that the build machine's never matters."""
        return "bpfel" if self.endian == "little" else "bpfeb"


X86_64 = Arch("x86_64", "x86", elf_machine=62, pe_machine=0x8664)
ARM64 = Arch("arm64", "arm64", elf_machine=183, pe_machine=0xAA64)
ARCHES: dict[str, Arch] = {
    arch.name: arch
    for arch in (
        X86_64,
        ARM64,
        Arch("arm", "arm", elf_machine=40, pe_machine=0x1C2),
        Arch("i386", "x86", elf_machine=3, pe_machine=0x14C),
        Arch("ppc64le", "powerpc", elf_machine=21),
        Arch("riscv64", "riscv", elf_machine=243, pe_machine=0x5064),
        Arch("s390x", "s390", elf_machine=22, endian="big"),
        Arch("loongarch64", "loongarch", elf_machine=258, pe_machine=0x6264),
    )
}
"""Every architecture hatch-bpf knows, by name."""
BY_ELF_MACHINE = {arch.elf_machine: arch.name for arch in ARCHES.values()}
BY_PE_MACHINE = {arch.pe_machine: arch.name for arch in ARCHES.values() if arch.pe_machine}


def by_machine(machine: str) -> Arch | None:
    """The architecture that `uname -m` or another spelling names, or None."""
    known = runtime_arch.of_machine(machine)
    return ARCHES[known.name] if known is not None else None


def build_machine() -> Arch | None:
    """The architecture of the machine the build runs on: the default of `archs`; None where BPF has no such target."""
    return by_machine(platform.machine())
