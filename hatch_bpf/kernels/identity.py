"""Which kernel: `distro/version/arch/release`, as BTFHub files it.

Input: such a text, or the running machine. Output: a `Kernel`, or `KernelError`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, total_ordering
from operator import attrgetter
from pathlib import Path

from hatch_bpf import arch as arches
from hatch_bpf.errors import KernelError
from hatch_bpf.runtime.host.kernel import running_kernel
from hatch_bpf.support.budget import KERNEL_PART

_NOTES = Path("/sys/kernel/notes")
"""Holds the running kernel's build id."""
UNKNOWN = "-"
"""Written for an empty distro or version: a kernel built by hand, or a distribution without versions."""


@total_ordering
@dataclass(frozen=True)
class Kernel:
    """One kernel build. Kernels sort as people count: 6.1.0-9 before 6.1.0-50."""

    distro: str
    """os-release's ID; empty when the distribution is not known."""
    version: str
    """os-release's VERSION_ID; empty for a rolling distribution."""
    arch: str
    """A name in `hatch_bpf.arch.ARCHES`."""
    release: str
    """`uname -r`."""

    def __post_init__(self) -> None:
        if self.arch not in arches.ARCHES:
            known = ", ".join(arches.ARCHES)
            raise KernelError(f'"{self.arch}" is not an architecture; write one of {known}')
        for what, text in (("distro", self.distro), ("version", self.version), ("release", self.release)):
            if "/" in text or not text.isprintable() or text in (".", "..") or (what == "release" and not text):
                raise KernelError(f"{text[:80]!r} cannot be the {what} of a kernel: write it as one part of a path")
            KERNEL_PART.check(len(text.encode()), source=f"the {what} {text[:16]}...", remedy="shorten it")

    def __str__(self) -> str:
        return f"{self.distro or UNKNOWN}/{self.version or UNKNOWN}/{self.arch}/{self.release}"

    def __lt__(self, other: Kernel) -> bool:
        return self.order < other.order

    @property
    def order(self) -> tuple[object, ...]:
        """Sort key."""
        # the text itself comes last, so that kernels that compare alike (07 and 7) still have one order
        return natural(self.distro), natural(self.version), self.arch, natural(self.release), str(self)

    @classmethod
    def parse(cls, text: str) -> Kernel:
        """Read `distro/version/arch/release`; the arch may be spelled as `uname -m` does. Raises `KernelError`."""
        parts = text.split("/")
        if len(parts) != 4:
            raise KernelError(f'"{text}" does not name a kernel: write distro/version/arch/release')
        distro, version, machine, release = parts
        arch = arches.by_machine(machine)
        return cls(
            "" if distro == UNKNOWN else distro,
            "" if version == UNKNOWN else version,
            arch.name if arch else machine,
            release,
        )


_CANDIDATE = ("~", "-rc")
"""What makes a version older than the one without it: 7.3~rc4, as dpkg has it, and 7.3-rc4 come before 7.3."""


@lru_cache(maxsize=1 << 15)  # sorting needs each of them many times
def natural(text: str) -> tuple[tuple[bool, str, int], ...]:
    """A sort key that reads runs of digits as numbers, and puts release candidates before their release."""
    found = re.findall(r"((?:~|-rc)?\D*?)([0-9]+|$)", text)
    return tuple((not word.startswith(_CANDIDATE), word, int(digits or 0)) for word, digits in found)


def in_order(kernels: Iterable[Kernel]) -> list[Kernel]:
    """Sorted, with each kernel's key worked out once."""
    return sorted(kernels, key=attrgetter("order"))


def host() -> Kernel:
    """The running machine's kernel, as the runtime identifies it there."""
    kernel = running_kernel()
    if arches.by_machine(kernel.arch) is None:
        raise KernelError(
            f'the running machine is "{kernel.arch}", for which hatch-bpf has no BPF target; take "host" out of kernels'
        )
    return Kernel(kernel.distro, kernel.version, kernel.arch, kernel.release)


def running_kernel_digest() -> str:
    """Changes whenever another kernel runs. Raises `OSError` if the kernel has no build id."""
    return hashlib.sha256(_NOTES.read_bytes()).hexdigest()
