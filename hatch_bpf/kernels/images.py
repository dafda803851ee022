"""A kernel of the matrix -> the image that boots it, if there is one.

Input: a `KernelSource`. Output: the path of its image, and what qemu boots of it. An archive has an image beside the
BTF, as `distro/version/arch/release.vmlinuz`; a package or vmlinuz that the matrix names is its own; the running
kernel's is where its distribution has it. Raises `KernelError`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import suffix_of
from hatch_bpf.kernels.companions import IMAGE
from hatch_bpf.kernels.formats.kernel_file import KernelFile, read_image
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.locked import check_locked
from hatch_bpf.kernels.matrix import KernelSource
from hatch_bpf.support.budget import IMAGE_BYTES
from hatch_bpf.support.files import read_regular


@dataclass(frozen=True)
class ImageFile:
    """Where a kernel's image is."""

    path: Path
    sha256: str | None
    """`KernelSource.image_sha256`."""

    def read(self, kernel: Kernel) -> KernelImage:
        """The image of that kernel. Raises `KernelError` if it is another, or cannot boot."""
        image = read_kernel_image(self.path)
        image.check(kernel)
        check_locked(f"this image of {kernel}", image.data, self.sha256, source=self.path, kernel=kernel)
        return image


def find_image(source: KernelSource, folder: Path | None = None) -> ImageFile | None:
    """A kernel's image, in the archive `folder` or where the kernel's BTF is; None if there is none."""
    found = IMAGE.find(source, folder)
    if not found and not source.is_host and not source.url and not suffix_of(source.path.name):
        found = source.path
    return ImageFile(found, source.image_sha256) if found else None


@dataclass(frozen=True)
class KernelImage:
    """A kernel image as a distribution ships it."""

    source: Path
    data: bytes
    holds: KernelFile

    def check(self, kernel: Kernel) -> None:
        """Raise `KernelError` unless it can boot, and is of the kernel's architecture."""
        of = architecture_of(self.holds)
        if not of:
            raise KernelError(
                "this is no image that boots: name a vmlinuz, or the package that has it", source=self.source
            )
        if of != kernel.arch:
            raise KernelError(
                f"this image is of {of}, and {kernel} is of {kernel.arch}: name the right one",
                source=self.source,
                kernel=kernel,
            )

    @property
    def bootable(self) -> bytes:
        """What qemu boots: on x86 the image, which unpacks itself; elsewhere the plain kernel."""
        return self.holds.images[0] if architecture_of(self.holds) == "x86_64" else self.holds.images[-1]


def image_to_keep(path: Path, host: Kernel | None = None) -> KernelImage:
    """The image in a package or in a file of its own; with `host`, that of the running kernel."""
    if host:
        found = IMAGE.find_of_host(host.release)
        if found is None:
            looked_for = " and ".join(map(str, IMAGE.places_of_host(host.release)))
            raise KernelError(f"there is no image of the running kernel: looked for {looked_for}")
        path = found
    return read_kernel_image(path)


def read_kernel_image(path: Path) -> KernelImage:
    """The image in a file. Whether it can boot is for `check()` to say."""
    holds = read_image(path)
    data = holds.packaged.data if holds.packaged else read_regular(path, IMAGE_BYTES.most)
    return KernelImage(path, data, holds)


def architecture_of(found: KernelFile) -> str:
    """The architecture of a bootable image; empty if it is not known, or not bootable."""
    for image in found.images:
        if image[0x202:0x206] == b"HdrS":
            (loads_64_bit,) = struct.unpack_from("<H", image, 0x236)
            return "x86_64" if loads_64_bit & 1 else "i386"
        if image[0x38:0x3C] == b"ARM\x64":
            return "arm64"
    return ""
