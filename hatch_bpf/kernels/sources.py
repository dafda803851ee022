"""A file of any form that holds a kernel's BTF -> that BTF.

Input: a raw BTF, a `.btf.tar.*`, an ELF with .BTF (vmlinux), a vmlinuz of any compression, a .deb or .rpm kernel
package. Output: the BTF's bytes, or `KernelError`. The form is told by the content, never by the name.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels import compression, packages
from hatch_bpf.kernels.archive import MAX_TAR, only_member
from hatch_bpf.kernels.raw_btf import MAX_BTF, check_btf, find_btf, is_btf

HOST_BTF = Path("/sys/kernel/btf/vmlinux")
"""The running kernel's own BTF."""

_ELF = b"\x7fELF"
_BPF_MACHINE = 247
_TAR_MAGIC_AT = 257
_FORMS = "a raw BTF, a .btf.tar.xz, a vmlinux or vmlinuz, or a .deb or .rpm kernel package"


def read_btf(path: Path) -> bytes:
    """The BTF of the kernel that a file holds. Raises `KernelError`."""
    try:
        with path.open("rb") as file:
            return _read(file, str(path))
    except OSError as error:
        raise KernelError(f"{path} cannot be read: {error}") from error


def _read(file: BinaryIO, source: str) -> bytes:
    start = file.read(512)
    file.seek(0)
    if is_btf(start):
        return check_btf(file.read(MAX_BTF + 1), source)
    if start.startswith(_ELF):
        return _from_elf(file, source)
    if start.startswith(packages.DEB_MAGIC):
        return _from_image(packages.vmlinuz_of_deb(file, source), f"{source}, vmlinuz")
    if start.startswith(packages.RPM_MAGIC):
        return _from_image(packages.vmlinuz_of_rpm(file, source), f"{source}, vmlinuz")
    fmt = compression.detect(start)
    if fmt:
        plain = compression.decompress(file, fmt, limit=packages.MAX_IMAGE, source=source)
        return _from_unpacked(plain, source)
    return _from_image(file.read(packages.MAX_IMAGE), source)


def _from_unpacked(plain: bytes, source: str) -> bytes:
    """What a compressed file held: a BTF, a tar with one, an ELF, or a kernel image."""
    if plain[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return only_member(plain[:MAX_TAR], source)[1]
    if is_btf(plain):
        return check_btf(plain, source)
    if plain.startswith(_ELF):
        return _from_elf(io.BytesIO(plain), source)
    return _found(find_btf(plain), source)


def _from_elf(file: BinaryIO, source: str) -> bytes:
    try:
        elf = ELFFile(file)
        if elf.header["e_machine"] in (_BPF_MACHINE, "EM_BPF"):
            raise KernelError(f"{source}: a BPF object, not a kernel; name {_FORMS}")
        section = elf.get_section_by_name(".BTF")
        data = section.data() if section else None
    except KernelError:
        raise
    # pyelftools lets construct's, struct's and the standard errors out of broken files, besides its own
    except (ELFError, Exception) as error:
        raise KernelError(f"{source}: a broken ELF file ({error}); get it anew") from error
    if data is None:
        raise KernelError(
            f"{source}: this ELF file has no .BTF section; the kernel was built without CONFIG_DEBUG_INFO_BTF, "
            f"or it was stripped: name another of {_FORMS}"
        )
    return check_btf(data, source)


def _from_image(image: bytes, source: str) -> bytes:
    """The BTF in a bootable kernel image, which is compressed as a whole, carries its payload, or is plain."""
    fmt = compression.detect(image)
    if fmt:
        return _from_image(
            compression.decompress(io.BytesIO(image), fmt, limit=packages.MAX_IMAGE, source=source), source
        )
    payload = _payload(image)
    if payload is None:
        return _found(find_btf(image), source)
    fmt = compression.detect(payload)
    if fmt is None:
        raise KernelError(
            f"{source}: the compression of this kernel's payload is not known (it starts with {payload[:4].hex(' ')}); "
            f"known are {', '.join(dict.fromkeys(known.name for known in compression.FORMATS))}"
        )
    plain = compression.decompress(io.BytesIO(payload), fmt, limit=packages.MAX_IMAGE, source=source)
    return _found(find_btf(plain), source)


def _payload(image: bytes) -> bytes | None:
    """The compressed kernel inside a vmlinuz, by the boot protocol of x86 or the header of an EFI zboot image."""
    if image[:2] == b"MZ" and image[4:8] == b"zimg":
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
