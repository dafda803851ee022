"""Kernel packages, .deb and .rpm -> the kernel image and configuration in them, and what the package says of them.

Input: an open package. Output: its vmlinuz, or `KernelError`. Nothing is unpacked to disk and no package tool is
needed; the package is read front to back until the image has come.
"""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.formats import compression
from hatch_bpf.kernels.formats.compression import PlainStream
from hatch_bpf.kernels.formats.tar import TarMember, members
from hatch_bpf.support.budget import CONFIG_BYTES, FILE_NAME, IMAGE_BYTES, PACKAGE_HEADER, Budget

DEB_MAGIC = b"!<arch>\n"
RPM_MAGIC = b"\xed\xab\xee\xdb"
STEPS_PER_FILE = 12
"""What a file in an RPM package costs of a budget. `kernel-devel`, the package with the most files, has 20,000."""
_AR_HEADER = 60
_RPM_LEAD = 96
_RPM_HEADER_MAGIC = b"\x8e\xad\xe8"
_RPM_MAX_STRING = 256
"""Longest version or architecture that is read, in bytes."""
_CPIO_HEADER = 110
_File = tuple[str, int, PlainStream]
"""A file in a package: its name, its bytes of content, and the stream, which is at them until the next file."""

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
    config: bytes = b""
    """The kernel's configuration; empty if the package has none. Both package tools sort files by name, so it comes
    before the image."""


def image_of_deb(file: BinaryIO, budget: Budget) -> PackagedImage:
    """The vmlinuz of a Debian package. Raises `KernelError`."""
    files = ((m.name, m.size, m.stream) for m in _deb_files(file, "data.tar", budget) if m.is_file)
    found = _image_of(files, "linux-image-* (from Linux 6.19 on: linux-binary-*)", budget)
    fields = _control(file, budget)
    return replace(found, arch=fields.get("Architecture", ""), version=fields.get("Version", ""))


def _control(file: BinaryIO, budget: Budget) -> Mapping[str, str]:
    """The fields of a Debian package's description that have one line."""
    for member in _deb_files(file, "control.tar", budget):
        if PurePosixPath(member.name).name == "control" and member.is_file:
            text = member.stream.read(PACKAGE_HEADER.check(member.size, source=budget.source))
            lines = text.decode("utf-8", "replace").splitlines()
            return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {}


def _deb_files(file: BinaryIO, name: str, budget: Budget) -> Iterator[TarMember]:
    """The members of one of the tars in a Debian package."""
    _go_to_member(file, name, budget)
    chunks = compression.plain_chunks(file, budget)
    return members(PlainStream(chunks, f"its {name}", source=budget.source), budget)


def _go_to_member(file: BinaryIO, wanted: str, budget: Budget) -> None:
    """Go to where the content of a Debian package's member begins."""
    file.seek(len(DEB_MAGIC))
    while True:
        budget.work()
        header = file.read(_AR_HEADER)
        if len(header) < _AR_HEADER or header[58:] != b"`\n":
            raise KernelError(
                f"no {wanted} in this Debian package, or the file is cut off; get it anew", source=budget.source
            )
        name = header[:16].decode("latin-1").strip().rstrip("/")
        size = _number(header[48:58].strip(), 10, "this Debian package", budget)
        if name.startswith(wanted):
            return
        file.seek(size + size % 2, 1)


def image_of_rpm(file: BinaryIO, budget: Budget) -> PackagedImage:
    """The vmlinuz of an RPM package. Raises `KernelError`."""
    file.seek(_RPM_LEAD)
    _rpm_header(file, budget)
    # the signature header is padded to 8 bytes, the main header is not
    file.seek(-file.tell() % 8, 1)
    tags = _rpm_header(file, budget)
    known = compression.detect_next(file)
    if known is None:
        raise KernelError(
            "the compression of this RPM's payload is not known, or the file is cut off", source=budget.source
        )
    found = _image_of(_cpio_files(compression.read_chunks(file, known, budget), budget), "kernel-core", budget)
    version = f"{tags.get(_RPM_VERSION, '')}-{tags.get(_RPM_RELEASE, '')}"
    return replace(found, arch=tags.get(_RPM_ARCH, ""), version=version)


def _cpio_files(payload: Iterable[bytes], budget: Budget) -> Iterator[_File]:
    """The regular files that have a content."""
    stream = PlainStream(payload, "its payload", source=budget.source)
    while True:
        budget.work(STEPS_PER_FILE)
        header = stream.read(_CPIO_HEADER)
        if header[:6] not in (b"070701", b"070702"):
            raise KernelError("the payload of this RPM is not the cpio archive it should be", source=budget.source)
        mode, size, name_size = (_number(header[at : at + 8], 16, "this RPM's payload", budget) for at in (14, 54, 94))
        FILE_NAME.check(name_size, source=budget.source)
        # header and name together, and the content, are padded to 4 bytes each
        name = stream.read(name_size + -(_CPIO_HEADER + name_size) % 4)[:name_size].rstrip(b"\0").decode("latin-1")
        if name == "TRAILER!!!":
            return
        end = stream.position + size + -size % 4
        if stat.S_ISREG(mode) and size:
            yield name, size, stream
        stream.skip(end - stream.position)


def _rpm_header(file: BinaryIO, budget: Budget) -> Mapping[int, str]:
    """Version, release and architecture of a header that has them; the file is behind the header then."""
    start = file.read(16)
    entries, size = int.from_bytes(start[8:12], "big"), int.from_bytes(start[12:16], "big")
    PACKAGE_HEADER.check(16 * entries + size, source=budget.source)
    index, store = file.read(16 * entries), file.read(size)
    if start[:3] != _RPM_HEADER_MAGIC or len(index) + len(store) < 16 * entries + size:
        raise KernelError("the headers of this RPM are broken or cut off; get the file anew", source=budget.source)
    budget.work(entries)
    strings = {}
    for tag, kind, offset, _ in struct.iter_unpack(">IIII", index):
        if kind == _RPM_STRING and tag in (_RPM_VERSION, _RPM_RELEASE, _RPM_ARCH):
            strings[tag] = store[offset : offset + _RPM_MAX_STRING].partition(b"\0")[0].decode("utf-8", "replace")
    return strings


def _image_of(files: Iterable[_File], right: str, budget: Budget) -> PackagedImage:
    """The image, without the package's architecture and version. `right` is the package that has one."""
    config = b""
    for name, size, stream in files:
        if _is_config(name):
            config = stream.read(CONFIG_BYTES.check(size, source=budget.source))
        elif PurePosixPath(name).name.startswith("vmlinuz"):
            data = stream.read(IMAGE_BYTES.check(size, source=budget.source))
            return PackagedImage(data, name, arch="", version="", config=config)
    raise KernelError(
        f"no kernel image (vmlinuz) in this package; the one that has it is {right}", source=budget.source
    )


def _is_config(name: str) -> bool:
    """Whether it is boot/config-RELEASE or lib/modules/RELEASE/config."""
    path = PurePosixPath(name)
    if path.name == "config":
        return path.parent.parent.name == "modules"
    return path.name.startswith("config-") and path.parent.name == "boot"


def _number(text: bytes, base: int, where: str, budget: Budget) -> int:
    if not re.fullmatch(b"[0-9]{1,10}" if base == 10 else b"[0-9A-Fa-f]{8}", text):
        raise KernelError(f"a broken header in {where}; get the file anew", source=budget.source)
    return int(text, base)
