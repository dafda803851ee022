"""Kernel packages, .deb and .rpm -> the kernel image in them, and what the package says of it.

Input: an open package. Output: its vmlinuz, or `KernelError`. Nothing is unpacked to disk and no package tool is
needed; the package is read front to back until the image has come.
"""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import BinaryIO

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.formats import compression

DEB_MAGIC = b"!<arch>\n"
RPM_MAGIC = b"\xed\xab\xee\xdb"
MAX_IMAGE = 512 << 20
"""Largest kernel image taken, in bytes, packed or not; a vmlinux without debug information has 40 to 80 MB."""
MAX_NAME = 1 << 16
"""Longest name of a file in a package taken, and largest header that only says more of the next, in bytes."""
_AR_HEADER = 60
_RPM_LEAD = 96
_MAX_RPM_HEADER = 256 << 20
"""Largest header taken, in bytes: rpm's own limit."""
_RPM_HEADER_MAGIC = b"\x8e\xad\xe8"
_CPIO_HEADER = 110


_RPM_STRING = 6
_RPM_VERSION, _RPM_RELEASE, _RPM_ARCH = 1001, 1002, 1022


@dataclass(frozen=True)
class PackagedImage:
    """The kernel image of a package."""

    data: bytes
    path: str
    """Where the package installs it."""
    arch: str
    """The package's architecture, as its distribution spells it."""
    version: str
    """The package's version, which need not be the kernel's release."""


def image_of_deb(file: BinaryIO, source: str) -> PackagedImage:
    """The vmlinuz of a Debian package. `source` names it in errors."""
    for member, read in deb_files(file, source):
        if member.isreg() and _is_image(member.name):
            _check_size(member.size, source)
            data, fields = read(), _control(file, source)
            return PackagedImage(data, member.name, fields.get("Architecture", ""), fields.get("Version", ""))
    raise _no_image(source, "linux-image-* (from Linux 6.19 on: linux-binary-*)")


def deb_files(file: BinaryIO, source: str) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """Everything that a Debian package installs, in its order.

    With each comes what reads a regular file's content, to be called before the next is asked for.
    """
    _go_to_member(file, "data.tar", source)
    yield from _tar_files(file, "data.tar", source)


def _control(file: BinaryIO, source: str) -> Mapping[str, str]:
    """The fields of a Debian package's description that have one line."""
    _go_to_member(file, "control.tar", source)
    for member, read in _tar_files(file, "control.tar", source):
        if PurePosixPath(member.name).name == "control" and member.isreg():
            lines = read().decode("utf-8", "replace").splitlines()
            return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {}


def _go_to_member(file: BinaryIO, wanted: str, source: str) -> None:
    """Go to where the content of a Debian package's member begins."""
    file.seek(len(DEB_MAGIC))
    while True:
        header = file.read(_AR_HEADER)
        if len(header) < _AR_HEADER or header[58:] != b"`\n":
            raise KernelError(f"{source}: no {wanted} in this Debian package, or the file is cut off; get it anew")
        name = header[:16].decode("latin-1").strip().rstrip("/")
        size = _decimal(header[48:58], source)
        if name.startswith(wanted):
            return
        file.seek(size + size % 2, 1)


def _tar_files(file: BinaryIO, name: str, source: str) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """The members of a tar, compressed or not, that begins where the file is."""
    start = file.read(8)
    file.seek(-len(start), 1)
    fmt = compression.detect(start)
    plain: BinaryIO = file
    if fmt:
        # RawIOBase is what tarfile reads from; its annotation asks for more
        plain = compression.PlainStream(compression.read_chunks(file, fmt, source=source))  # type: ignore[assignment]
    try:
        with tarfile.open(fileobj=plain, mode="r|", bufsize=compression.CHUNK, tarinfo=_TarInfo) as tar:
            for member in tar:
                yield member, partial(_content, tar, member, f"{source}: its {name}")
    except KernelError:
        raise
    # tarfile lets more than its own errors out of hostile headers
    except Exception as error:
        raise _corrupt_tar(f"{source}: its {name}", error) from error


class _TarInfo(tarfile.TarInfo):
    """A header that does not have tarfile read gigabytes of names and attributes into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _TarInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _MORE_OF_THE_NEXT and info.size > MAX_NAME:
            raise tarfile.TarError(f"a name or header of {info.size} bytes")
        return info


_MORE_OF_THE_NEXT = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> bytes:
    try:
        content = tar.extractfile(member)
        assert content is not None
        return content.read()
    except (tarfile.TarError, ValueError) as error:
        raise _corrupt_tar(name, error) from error


def _corrupt_tar(name: str, error: Exception) -> KernelError:
    return KernelError(f"{name} is corrupt or cut off ({error}); get the file anew")


def image_of_rpm(file: BinaryIO, source: str) -> PackagedImage:
    """The vmlinuz of an RPM package. `source` names it in errors."""
    file.seek(_RPM_LEAD)
    _rpm_header(file, source)
    # the signature header is padded to 8 bytes, the main header is not
    file.seek(-file.tell() % 8, 1)
    tags = _rpm_header(file, source)
    start = file.read(8)
    file.seek(-len(start), 1)
    fmt = compression.detect(start)
    if fmt is None:
        raise KernelError(f"{source}: the compression of this RPM's payload is not known, or the file is cut off")
    stream = _Reader(compression.PlainStream(compression.read_chunks(file, fmt, source=source)), source)
    while True:
        header = stream.read(_CPIO_HEADER)
        if header[:6] not in (b"070701", b"070702"):
            raise KernelError(f"{source}: the payload of this RPM is not the cpio archive it should be")
        mode, size, name_size = (_hexadecimal(header[at : at + 8], source) for at in (14, 54, 94))
        if name_size > MAX_NAME:
            raise KernelError(f"{source}: a file name of {name_size} bytes in this RPM's payload; get the file anew")
        # header and name together, and the content, are padded to 4 bytes each
        name = stream.read(name_size + -(_CPIO_HEADER + name_size) % 4)[:name_size].rstrip(b"\0").decode("latin-1")
        if name == "TRAILER!!!":
            raise _no_image(source, "kernel-core")
        if mode & 0o170000 == 0o100000 and size and _is_image(name):
            _check_size(size, source)
            version = f"{tags.get(_RPM_VERSION, '')}-{tags.get(_RPM_RELEASE, '')}"
            return PackagedImage(stream.read(size), name, tags.get(_RPM_ARCH, ""), version)
        stream.skip(size + -size % 4)


class _Reader:
    """Exact reads from a stream."""

    def __init__(self, stream: compression.PlainStream, source: str) -> None:
        self._stream = stream
        self._source = source

    def read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = self._stream.read(min(count - len(data), compression.CHUNK))
            if not chunk:
                raise KernelError(f"{self._source}: cut off in the middle of a file; get it anew")
            data += chunk
        return bytes(data)

    def skip(self, count: int) -> None:
        while count:
            count -= len(self.read(min(count, compression.CHUNK)))


def _rpm_header(file: BinaryIO, source: str) -> Mapping[int, str]:
    """The tags of a header that are plain strings; the file is behind the header then."""
    header = file.read(16)
    if header[:3] != _RPM_HEADER_MAGIC:
        raise KernelError(f"{source}: the headers of this RPM are broken or cut off; get the file anew")
    entries, size = int.from_bytes(header[8:12], "big"), int.from_bytes(header[12:16], "big")
    if 16 * entries + size > _MAX_RPM_HEADER:
        raise KernelError(f"{source}: the headers of this RPM are broken or cut off; get the file anew")
    index, store = file.read(16 * entries), file.read(size)
    strings = {}
    for tag, kind, offset, _ in struct.iter_unpack(">IIII", index[: len(index) // 16 * 16]):
        if kind == _RPM_STRING:
            strings[tag] = store[offset:].split(b"\0", 1)[0].decode("utf-8", "replace")
    return strings


def _is_image(name: str) -> bool:
    return PurePosixPath(name).name.startswith("vmlinuz")


def _check_size(size: int, source: str) -> None:
    if size > MAX_IMAGE:
        raise KernelError(f"{source}: its kernel image has {size >> 20} MiB, more than any kernel; get the file anew")


def _no_image(source: str, right: str) -> KernelError:
    return KernelError(f"{source}: no kernel image (vmlinuz) in this package; the one that has it is {right}")


def _decimal(text: bytes, source: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise KernelError(f"{source}: a broken header in this Debian package; get the file anew") from None


def _hexadecimal(text: bytes, source: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise KernelError(f"{source}: a broken header in this RPM's payload; get the file anew") from None
