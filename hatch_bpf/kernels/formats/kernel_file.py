"""A file of any form that holds a kernel's BTF -> that BTF, and the kernel image that it was in.

Input: a raw BTF, a `.btf.tar.*`, an ELF with .BTF (vmlinux), a vmlinuz of any compression, a .deb or .rpm kernel
package. Output: a `KernelFile`, or `KernelError`. The content decides which form it is, never the name.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.formats import compression, elf, packages
from hatch_bpf.kernels.formats.raw_btf import check_btf, find_btf, is_btf
from hatch_bpf.kernels.formats.tar import only_member
from hatch_bpf.support.budget import BTF_BYTES, IMAGE_BYTES, Budget
from hatch_bpf.support.files import open_regular

_TAR_MAGIC_AT = 257
_FORMS = "a raw BTF, a .btf.tar.xz, a vmlinux or vmlinuz, or a .deb or .rpm kernel package"


@dataclass(frozen=True)
class KernelFile:
    """What a file holds of a kernel."""

    btf: bytes
    images: tuple[bytes, ...] = ()
    """The kernel image as it was found at each step of unpacking, the plain one last; none with a bare BTF."""
    packaged: packages.PackagedImage | None = None
    """What the package says of itself, if the file is one."""
    member: str = ""
    """The BTF's name, where the file is a tar."""


def read_btf(path: Path) -> bytes:
    """The BTF of the kernel that a file holds. Raises `KernelError`."""
    return read_kernel(path).btf


def read_kernel(path: Path) -> KernelFile:
    """All that a file holds of a kernel. Raises `KernelError`."""
    with open_kernel(path) as (file, budget):
        return _read(file, budget)


def read_image(path: Path) -> KernelFile:
    """What a package, vmlinuz or vmlinux holds, whether or not there is BTF in it. Raises `KernelError`."""
    with open_kernel(path) as (file, budget):
        packaged = _packaged(file, budget)
        images = _unpacked_images(packaged.data if packaged else file.read(IMAGE_BYTES.most), budget)
        return KernelFile(find_btf(images[-1], budget) or b"", images, packaged)


@contextmanager
def open_kernel(path: Path) -> Iterator[tuple[BinaryIO, Budget]]:
    """Open a file that holds a kernel's BTF or image, with a budget for reading it.

    Raises `KernelError`, also for a fault of the disk in the block.
    """
    try:
        with open_regular(path) as file:
            yield file, Budget(str(path), os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise KernelError(f"cannot be read: {error.strerror}", source=path) from error


def _packaged(file: BinaryIO, budget: Budget) -> packages.PackagedImage | None:
    """The image of a kernel package; None if the file is none, and at its start then."""
    start = file.read(len(packages.DEB_MAGIC))
    file.seek(0)
    if start.startswith(packages.DEB_MAGIC):
        return packages.image_of_deb(file, budget)
    return packages.image_of_rpm(file, budget) if start.startswith(packages.RPM_MAGIC) else None


def _read(file: BinaryIO, budget: Budget) -> KernelFile:
    start = file.read(512)
    file.seek(0)
    if is_btf(start):
        return KernelFile(check_btf(file.read(BTF_BYTES.most + 1), budget.source))
    if packaged := _packaged(file, budget):
        return replace(_from_image(packaged.data, budget), packaged=packaged)
    known = compression.detect(start)
    if known:
        return _from_unpacked(compression.decompress(file, known, budget), budget)
    image = file.read(IMAGE_BYTES.most)
    if start.startswith(elf.MAGIC):
        # with debug information it can be larger than an image is
        with mmap(file.fileno(), 0, access=ACCESS_READ) as whole:
            return KernelFile(_btf_of_elf(whole, budget), (image,))
    return _from_image(image, budget)


def _from_unpacked(plain: bytes, budget: Budget) -> KernelFile:
    """What a compressed file held: a BTF, a tar with one, an ELF, or a kernel image."""
    if plain[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        name, btf = only_member(plain, budget)
        return KernelFile(btf, member=name)
    if is_btf(plain):
        return KernelFile(check_btf(plain, budget.source))
    if plain.startswith(elf.MAGIC):
        return KernelFile(_btf_of_elf(plain, budget), (plain,))
    return KernelFile(_btf_in(plain, budget), (plain,))


def _btf_of_elf(data: bytes | mmap, budget: Budget) -> bytes:
    if elf.machine(data) == elf.EM_BPF:
        raise KernelError(f"a BPF object, not a kernel; name {_FORMS}", source=budget.source)
    btf = elf.find_section(data, ".BTF", budget)
    if btf is None:
        raise KernelError(
            "this ELF file has no .BTF section; the kernel was built without CONFIG_DEBUG_INFO_BTF, or it was "
            "stripped. From a vmlinux with DWARF make BTF by `pahole --btf_encode_detached vmlinux.btf vmlinux`, or "
            f"name another of {_FORMS}",
            source=budget.source,
        )
    return check_btf(btf, budget.source)


def _from_image(image: bytes, budget: Budget) -> KernelFile:
    images = _unpacked_images(image, budget)
    return KernelFile(_btf_in(images[-1], budget), images)


def _unpacked_images(image: bytes, budget: Budget) -> tuple[bytes, ...]:
    """A bootable kernel image, which is compressed as a whole, carries its payload, or is plain; the plain one last."""
    known = compression.detect(image)
    if known:
        # once: there are files that unpack to themselves
        image = compression.decompress(io.BytesIO(image), known, budget)
    payload = _payload(image, budget)
    if payload is None:
        return (image,)
    known = compression.detect(payload)
    if known is None:
        raise KernelError(
            f"the compression of this kernel's payload is not known (it starts with {payload[:4].hex(' ')}); "
            f"known are {', '.join(dict.fromkeys(known.name for known in compression.COMPRESSIONS))}",
            source=budget.source,
        )
    return image, compression.decompress(io.BytesIO(payload), known, budget)


def _payload(image: bytes, budget: Budget) -> bytes | None:
    """The compressed kernel inside a vmlinuz, by the boot protocol of x86 or the header of an EFI zboot image."""
    if image[:2] == b"MZ" and image[4:8] == b"zimg" and len(image) >= 16:
        start, size = struct.unpack_from("<II", image, 8)
    elif image[0x202:0x206] == b"HdrS" and len(image) > 0x250:
        sectors = image[0x1F1] or 4
        offset, size = struct.unpack_from("<II", image, 0x248)
        start = (sectors + 1) * 512 + offset
    else:
        return None
    if len(image) < start + size:
        raise KernelError(
            f"this kernel image is cut off: of {start + size:,} bytes it has {len(image):,}; get it anew",
            source=budget.source,
        )
    return image[start : start + size]


def _btf_in(image: bytes, budget: Budget) -> bytes:
    btf = find_btf(image, budget)
    if btf is None:
        raise KernelError(
            f"no BTF in it; it is not {_FORMS}, or the kernel was built without CONFIG_DEBUG_INFO_BTF",
            source=budget.source,
        )
    return btf
