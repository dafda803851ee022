"""A file of any form that holds a kernel's BTF -> that BTF, and the kernel image that it was in.

Input: a raw BTF, a `.btf.tar.*`, an ELF with .BTF (vmlinux), a vmlinuz of any compression, a .deb or .rpm kernel
package. Output: a `KernelFile`, or `KernelError`. The form is told by the content, never by the name.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import MAX_TAR, only_member
from hatch_bpf.kernels.formats import compression, packages
from hatch_bpf.kernels.formats.raw_btf import MAX_BTF, check_btf, find_btf, is_btf

HOST_BTF = Path("/sys/kernel/btf/vmlinux")
"""The running kernel's own BTF."""

_ELF = b"\x7fELF"
_BPF_MACHINE = 247
_TAR_MAGIC_AT = 257
_FORMS = "a raw BTF, a .btf.tar.xz, a vmlinux or vmlinuz, or a .deb or .rpm kernel package"


@dataclass(frozen=True)
class KernelFile:
    """What a file holds of a kernel."""

    btf: bytes
    images: tuple[bytes, ...] = ()
    """The kernel image in every form it was met in, from the outermost to the plain one; none with a bare BTF."""
    packaged: packages.PackagedImage | None = None
    """The package's own words, if the file is one."""
    member: str = ""
    """The BTF's name, where the file is a tar."""


def read_btf(path: Path) -> bytes:
    """The BTF of the kernel that a file holds. Raises `KernelError`."""
    return read_kernel(path).btf


def read_kernel(path: Path) -> KernelFile:
    """All that a file holds of a kernel. Raises `KernelError`."""
    try:
        with path.open("rb") as file:
            return _read(file, str(path))
    except OSError as error:
        raise KernelError(f"{path} cannot be read: {error}") from error


def _read(file: BinaryIO, source: str) -> KernelFile:
    start = file.read(512)
    file.seek(0)
    if is_btf(start):
        return KernelFile(check_btf(file.read(MAX_BTF + 1), source))
    if start.startswith(_ELF):
        return KernelFile(_btf_of_elf(file, source), (_whole(file),))
    if start.startswith(packages.DEB_MAGIC):
        return _from_package(packages.image_of_deb(file, source), source)
    if start.startswith(packages.RPM_MAGIC):
        return _from_package(packages.image_of_rpm(file, source), source)
    fmt = compression.detect(start)
    if fmt:
        plain = compression.decompress(file, fmt, limit=packages.MAX_IMAGE, source=source)
        return _from_unpacked(plain, source)
    return _from_image(file.read(packages.MAX_IMAGE), source)


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(packages.MAX_IMAGE)


def _from_package(packaged: packages.PackagedImage, source: str) -> KernelFile:
    return replace(_from_image(packaged.data, f"{source}, vmlinuz"), packaged=packaged)


def _from_unpacked(plain: bytes, source: str) -> KernelFile:
    """What a compressed file held: a BTF, a tar with one, an ELF, or a kernel image."""
    if plain[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        name, btf = only_member(plain[:MAX_TAR], source)
        return KernelFile(btf, member=name)
    if is_btf(plain):
        return KernelFile(check_btf(plain, source))
    if plain.startswith(_ELF):
        return KernelFile(_btf_of_elf(io.BytesIO(plain), source), (plain,))
    return KernelFile(_found(find_btf(plain), source), (plain,))


def _btf_of_elf(file: BinaryIO, source: str) -> bytes:
    # few builds meet one, and all would wait for the import
    from elftools.elf.elffile import ELFFile

    from hatch_bpf.objects.elf import contents

    try:
        elf = ELFFile(file)
        if elf.header["e_machine"] in (_BPF_MACHINE, "EM_BPF"):
            raise KernelError(f"{source}: a BPF object, not a kernel; name {_FORMS}")
        section = elf.get_section_by_name(".BTF")
        data = contents(section) if section else None
    except KernelError:
        raise
    # pyelftools lets construct's, struct's and the standard errors out of broken files, besides its own
    except Exception as error:
        raise KernelError(f"{source}: a broken ELF file ({error}); get it anew") from error
    if data is None:
        raise KernelError(
            f"{source}: this ELF file has no .BTF section; the kernel was built without CONFIG_DEBUG_INFO_BTF, "
            f"or it was stripped: name another of {_FORMS}"
        )
    return check_btf(data, source)


def _from_image(image: bytes, source: str) -> KernelFile:
    """The BTF in a bootable kernel image, which is compressed as a whole, carries its payload, or is plain."""
    fmt = compression.detect(image)
    if fmt:
        # once: there are files that unpack to themselves
        image = compression.decompress(io.BytesIO(image), fmt, limit=packages.MAX_IMAGE, source=source)
    payload = _payload(image)
    if payload is None:
        return KernelFile(_found(find_btf(image), source), (image,))
    fmt = compression.detect(payload)
    if fmt is None:
        raise KernelError(
            f"{source}: the compression of this kernel's payload is not known (it starts with {payload[:4].hex(' ')}); "
            f"known are {', '.join(dict.fromkeys(known.name for known in compression.FORMATS))}"
        )
    plain = compression.decompress(io.BytesIO(payload), fmt, limit=packages.MAX_IMAGE, source=source)
    return KernelFile(_found(find_btf(plain), source), (image, plain))


def _payload(image: bytes) -> bytes | None:
    """The compressed kernel inside a vmlinuz, by the boot protocol of x86 or the header of an EFI zboot image."""
    if image[:2] == b"MZ" and image[4:8] == b"zimg" and len(image) >= 16:
        offset, size = struct.unpack_from("<II", image, 8)
        return image[offset : offset + size]
    if image[0x202:0x206] == b"HdrS" and len(image) > 0x250:
        sectors = image[0x1F1] or 4
        offset, size = struct.unpack_from("<II", image, 0x248)
        start = (sectors + 1) * 512 + offset
        return image[start : start + size]
    return None


def _found(btf: bytes | None, source: str) -> bytes:
    if btf is None:
        raise KernelError(
            f"{source}: no BTF in it; it is not {_FORMS}, or the kernel was built without CONFIG_DEBUG_INFO_BTF"
        )
    return btf
