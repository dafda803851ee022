"""A file that holds a kernel -> the kernel's identity, as far as the file shows it.

Input: a path and what `read_kernel()` found there. Output: a `Clues`, whose unknown parts are empty. Nothing is
guessed, since a BTF under a wrong name makes programs read wrong offsets.
"""

from __future__ import annotations

import re
import struct
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from hatch_bpf import arch as arches
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import suffix_of
from hatch_bpf.kernels.formats import elf
from hatch_bpf.kernels.formats.kernel_file import KernelFile
from hatch_bpf.kernels.formats.packages import PackagedImage
from hatch_bpf.kernels.identity import Kernel

_BANNER = re.compile(rb"Linux version (\d[!-~]*) \([^\n\0]{1,400}")
_DISTROS = (
    # what the release, the package's version or the banner has, the distro, and the group that is its version
    (r"(?:\+deb|~bpo)(\d+)", "debian"),
    (r"\(Debian |debian-kernel@", "debian"),
    (r"\(Ubuntu [^)]*~(\d\d\.\d\d)", "ubuntu"),
    (r"\(Ubuntu |-Ubuntu\b", "ubuntu"),
    (r"\.fc(\d+)\b", "fedora"),
    (r"\.amzn(\d+)\b", "amzn"),
)


@dataclass(frozen=True)
class Clues:
    """The parts of a kernel's identity that are known."""

    distro: str = ""
    version: str = ""
    arch: str = ""
    release: str = ""

    def over(self, other: Clues) -> Clues:
        """These clues, with the empty ones filled in from the other."""
        return replace(other, **{name: text for name, text in asdict(self).items() if text})

    def kernel(self, source: str) -> Kernel:
        """The kernel. Raises `KernelError`, which names the options to give, if a part is unknown."""
        parts = asdict(self)
        unknown = [name for name, text in parts.items() if not text]
        if unknown:
            known = ", ".join(f"{name} {text}" for name, text in parts.items() if text)
            raise KernelError(
                f"{source}: {' and '.join(unknown)} cannot be told from this file{f' ({known})' if known else ''}: "
                f"give {', '.join(f'--{name}' for name in unknown)} (- for none)"
            )
        return Kernel.parse("/".join(parts.values()))


def identify(path: Path, found: KernelFile) -> Clues:
    """Clues from the file's place, its package and its kernel image; the first source counts most."""
    image = _of_images(found.images)
    packaged = _of_package(found.packaged) if found.packaged else Clues()
    clues = _of_place(path, found).over(packaged.over(image))
    texts = [clues.release, found.packaged.version if found.packaged else "", _banner(found.images)]
    return clues.over(_distro(" ".join(texts)))


def _of_place(path: Path, found: KernelFile) -> Clues:
    """The whole identity, if the file lies at `distro/version/arch/release.btf.tar.xz` and holds a tar."""
    if not found.member:
        suffix = suffix_of(path.name)
        return Clues(release=path.name.removesuffix(suffix) if suffix else "")
    release = found.member.removesuffix(".btf")
    parts = path.absolute().parts
    arch = arches.by_machine(parts[-2])
    if arch is None or len(parts) < 5 or path.name.removesuffix(suffix_of(path.name)) != release:
        return Clues(release=release)
    return Clues(parts[-4], parts[-3], arch.name, release)


def _of_package(packaged: PackagedImage) -> Clues:
    """The image is `vmlinuz-RELEASE`, or `vmlinuz` in a folder of that name."""
    path = PurePosixPath(packaged.path)
    arch = arches.by_machine(packaged.arch)
    release = path.parent.name if path.name == "vmlinuz" else path.name.removeprefix("vmlinuz-")
    return Clues(arch=arch.name if arch else "", release=release)


def _of_images(images: tuple[bytes, ...]) -> Clues:
    names = [name for name in map(_machine, images) if name]
    match = _BANNER.search(_banner(images).encode())
    return Clues(arch=names[0] if names else "", release=match[1].decode("ascii") if match else "")


def _banner(images: tuple[bytes, ...]) -> str:
    """The text of /proc/version, which the plain image holds."""
    match = _BANNER.search(images[-1]) if images else None
    return match[0].decode("ascii", "replace") if match else ""


def _machine(image: bytes) -> str | None:
    if image.startswith(elf.MAGIC):
        return arches.BY_ELF_MACHINE.get(elf.machine(image))
    if image.startswith(b"MZ") and len(image) >= 0x40:
        (at,) = struct.unpack_from("<I", image, 0x3C)
        if image[at : at + 4] == b"PE\0\0" and len(image) >= at + 6:
            return arches.BY_PE_MACHINE.get(struct.unpack_from("<H", image, at + 4)[0])
    return None


def _distro(text: str) -> Clues:
    found = Clues()
    for pattern, distro in _DISTROS:
        match = re.search(pattern, text)
        if match and found.distro in ("", distro):
            found = found.over(Clues(distro=distro, version=match[1] if match.re.groups else ""))
    return found
