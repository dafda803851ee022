"""Which BTF libbpf gets: a file that was asked for, the kernel's own, or the embedded one for exactly this kernel.

Input: the running machine and the package's `_bpf` folder. Output: a `BtfChoice`.
libbpf believes any BTF, so a near match is never used: with wrong offsets programs would silently read garbage.
"""

from __future__ import annotations

import os
import struct

from ..errors import BpfError, KernelNotCoveredError, PackageError
from ..plain_data import PlainData
from . import KERNEL_BTF as KERNEL_BTF
from .arch import running_name
from .digest import sha256
from .memory_files import memory_file, seal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Optional, Union

OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
EMPTY_BTF = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 1) + b"\0"
"""A BTF without types."""

UNNAMED_DISTRO = "linux"
"""os-release(5)'s own default for a distribution that does not name itself."""


class RunningKernel(PlainData):
    """The kernel of this machine, under the name by which an archive files it."""

    arch: str
    release: str
    """`uname -r`."""
    distro: str
    version: str
    """os-release's VERSION_ID; empty for a rolling distribution."""

    def __str__(self) -> str:
        """`distro/version/arch/release`."""
        return f"{self.distro}/{self.version}/{self.arch}/{self.release}"


def running_kernel() -> RunningKernel:
    """The kernel that this process runs on.

    In a container os-release describes the container's distribution, but some kernels name their own.
    """
    uname = os.uname()
    distro, version = backported(uname.version) or distribution(parse_os_release(_read_os_release()))
    return RunningKernel(arch=running_name(), release=uname.release, distro=distro, version=version)


def backported(uname_version: str) -> Optional[tuple[str, str]]:
    """The distribution for which an Ubuntu kernel was rebuilt: `#46~18.04.1-Ubuntu SMP Fri Jul 10` gives 18.04.

    Ubuntu 20.04 has a kernel of the same release, from another compiler.
    """
    build, is_ubuntus, _ = uname_version.partition("-Ubuntu")
    version = build.partition("~")[2][:5]
    return ("ubuntu", version) if is_ubuntus and version[2:3] == "." else None


def distribution(fields: Mapping[str, str]) -> tuple[str, str]:
    """ID and VERSION_ID of os-release, each usable as one part of a path; a version may be empty."""
    distro, version = (_path_part(fields.get(name, "")) for name in ("ID", "VERSION_ID"))
    return distro or UNNAMED_DISTRO, version


def _path_part(text: str) -> str:
    return "" if "/" in text or not text.isprintable() or text in (".", "..") else text


def _read_os_release() -> str:
    """The text of the first os-release file that can be read."""
    for path in OS_RELEASE:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            continue
    return ""


def parse_os_release(text: str) -> dict[str, str]:
    """os-release(5): lines `NAME=value`, each value read as a shell reads it. Broken lines are skipped."""
    fields = {}
    for line in text.split("\n"):
        name, equals, rest = line.strip().partition("=")
        value = _shell_word(rest)
        if equals and name.isidentifier() and value is not None:
            fields[name] = value
    return fields


def _shell_word(text: str) -> Optional[str]:
    """The first word of a shell's line without its quotes; None if a quote is not closed."""
    word, quote, is_escaped = "", "", False
    for char in text:
        if is_escaped:
            # between double quotes a backslash stays, except before a character that it protects
            word += char if not quote or char in '$`"\\' else "\\" + char
            is_escaped = False
        elif char == "\\" and quote != "'":
            is_escaped = True
        elif char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote = char
        elif not quote and char in " \t;&|":
            break
        else:
            word += char
    return None if quote or is_escaped else word


class BtfChoice(PlainData):
    """The BTF by which a program's accesses are relocated on this machine, and its source."""

    source: str
    """`explicit`, `kernel` or `embedded`."""
    path: str
    """Path of the file; empty for a BTF that was given as bytes."""
    kernel: str
    """The kernel that it describes, `distro/version/arch/release`: the running one, unless it is embedded."""
    size: int
    """In bytes."""
    data: Optional[bytes] = None
    """The BTF itself: an embedded one, verified, or the given one. None for one that libbpf reads from `path`."""

    def __str__(self) -> str:
        what = {
            "explicit": f"the BTF file that was asked for, {self.path}" if self.path else "the BTF that was given",
            "kernel": f"the kernel's own BTF, {self.path}",
            "embedded": f"the BTF embedded in the package for {self.kernel}, {self.path}",
        }
        return f"{what[self.source]} ({self.size} bytes)"

    def __repr__(self) -> str:
        return f"BtfChoice(source={self.source!r}, path={self.path!r}, kernel={self.kernel!r}, size={self.size})"


def choose_btf(bpf_dir: str, kernels: tuple[str, str], *, explicit: Union[str, bytes, None] = None) -> BtfChoice:
    """The BTF for this machine. `kernels` is the file of embedded BTFs and its sha256, `explicit` a path or a BTF.

    Raises `KernelNotCoveredError`, or another `BpfError` for a bad file.
    """
    machine = running_kernel()
    if isinstance(explicit, bytes):
        return BtfChoice(source="explicit", path="", kernel=str(machine), size=len(explicit), data=explicit)
    if explicit is not None:
        try:
            size = os.stat(explicit).st_size
        except OSError as error:
            raise BpfError(f"the BTF file that was asked for, {explicit}, can't be read: {error.strerror}") from error
        return BtfChoice(source="explicit", path=os.fspath(explicit), kernel=str(machine), size=size)
    if os.path.exists(KERNEL_BTF):
        size = os.stat(KERNEL_BTF).st_size
        return BtfChoice(source="kernel", path=KERNEL_BTF, kernel=str(machine), size=size)
    from .embedded import Embedded  # most machines never need it

    name, digest = kernels
    path = os.path.join(bpf_dir, name)
    embedded = Embedded(read_verified(path, digest), path)
    namesakes = embedded.namesakes(arch=machine.arch, release=machine.release)
    kernel = match(namesakes, machine)
    if kernel is None:
        raise not_covered(embedded.kernels(), machine)
    data = embedded.btf(namesakes[kernel])
    return BtfChoice(source="embedded", path=path, kernel=kernel, size=len(data), data=data)


def match(namesakes: Mapping[str, int], machine: RunningKernel) -> Optional[str]:
    """The embedded kernel that is the running one, or None. `namesakes` have its architecture and release.

    The distribution decides between them. If it matches none of them (in a container os-release is the container's),
    any will do, provided that all have the same BTF.
    """
    # archives file the kernels of Oracle Linux and Red Hat 8.9 under 8
    major = f"{machine.distro}/{machine.version.partition('.')[0]}/{machine.arch}/{machine.release}"
    for kernel in (str(machine), major):
        if kernel in namesakes:
            return kernel
    if len(set(namesakes.values())) == 1:
        return min(namesakes)
    return None


def not_covered(index: Collection[str], machine: RunningKernel) -> KernelNotCoveredError:
    """The error, which names the kernel that was looked for and those that are embedded."""
    shown = 12
    same = sorted(kernel for kernel in index if kernel.split("/")[2:] == [machine.arch, machine.release])
    if same:
        there = f"it embeds several different kernels of that release and cannot tell which this is: {', '.join(same)}"
    elif not index:
        there = "it embeds none at all"
    else:
        kernels = sorted(index, key=lambda kernel: (kernel.split("/")[2] != machine.arch, kernel))
        there = f"it embeds {len(index)}: {', '.join(kernels[:shown])}"
        if len(kernels) > shown:
            there += f" and {len(kernels) - shown} more"
    return KernelNotCoveredError(
        f"this kernel has no BTF of its own ({KERNEL_BTF} is not there) and the package embeds none for it: "
        f"looked for {machine}; {there}. Add the kernel to the package's matrix, "
        f"or open the skeleton with btf= and the path of this very kernel's BTF",
        wanted=str(machine),
        embedded=sorted(index),
    )


def read_verified(path: str, digest: str) -> bytes:
    """The bytes of a file of the package. Raises `PackageError` unless it is the file that was built."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise PackageError(f"{path} can't be read: {error.strerror}; reinstall the package") from error
    found = sha256(data)
    if found != digest:
        raise PackageError(
            f"{path} is not the file that was built: its sha256 is {found}, not {digest}; reinstall the package"
        )
    return data


def sealed_memfd(name: str, data: bytes) -> int:
    """A `Descriptor` of a file in memory that can't be changed any more; libbpf reads it as /proc/self/fd/N."""
    fd = memory_file(name)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    seal(fd)
    return fd
