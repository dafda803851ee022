"""Small BTFs, archives, kernel images and kernel packages, built byte by byte, for the tests of `hatch_bpf.kernels`."""

from __future__ import annotations

import io
import lzma
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

from hatch_bpf.kernels.archive import path_of
from hatch_bpf.kernels.identity import Kernel
from tests.common import needs

ENDIAN_SIGN = {"little": "<", "big": ">"}


def btf(*names: str, endian: str = "little", header: int = 24) -> bytes:
    """A BTF of one 4-byte int for each name."""
    order = ENDIAN_SIGN[endian]
    strings, types = b"\0", b""
    for name in names or ("int",):
        types += struct.pack(order + "IIII", len(strings), 1 << 24, 4, 1 << 24 | 32)
        strings += name.encode() + b"\0"
    start = struct.pack(order + "HBBIIIII", 0xEB9F, 1, 0, header, 0, len(types), len(types), len(strings))
    return start.ljust(header, b"\0") + types + strings


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a tar; `fields` are attributes of its TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar of those members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as opened:
        for info, content in members:
            opened.addfile(info, io.BytesIO(content))
    return file.getvalue()


def archive(folder: Path, kernels: Iterable[str]) -> Path:
    """An archive with those kernels, each with a BTF of its own: an int named like the kernel."""
    for text in kernels:
        kernel = Kernel.parse(text)
        path = folder / path_of(kernel)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(tar(member(f"{kernel.release}.btf", btf(text))), preset=0))
    return folder


def compressed_by(command: str, *arguments: str, data: bytes) -> bytes:
    """The output of a system command for some data."""
    return subprocess.run([needs.tool(command), *arguments], input=data, capture_output=True, check=True).stdout


def image(content: bytes) -> bytes:
    """An uncompressed kernel image: the BTF between other bytes, which include the magic number on its own."""
    decoy = b"\x9f\xeb\x01\x00" + b"\x18\0\0\0" + b"\xff" * 16
    return b"\x90" * 5000 + decoy + btf("decoy") + b"\x90" * 700 + content + b"\xcc" * 3000 + decoy[:6]


def bz_image(payload: bytes) -> bytes:
    """x86's vmlinuz: boot sector, setup code, the payload where the header says, and more bytes after it."""
    sectors, offset = 3, 0x40
    start = bytearray((sectors + 1) * 512 + offset)
    start[0x1F1] = sectors
    start[0x202:0x206] = b"HdrS"
    start[0x236] = 1  # it is a 64-bit kernel
    # the last four bytes of the payload are the size of the kernel, which the build appends
    struct.pack_into("<II", start, 0x248, offset, len(payload) + 4)
    return bytes(start) + payload + struct.pack("<I", 12345) + b"\xaa" * 200


def zboot_image(payload: bytes, compression: bytes) -> bytes:
    """An EFI zboot image, as arm64, riscv64 and loongarch64 have it."""
    start = b"MZ\0\0zimg" + struct.pack("<II", 0x200, len(payload)) + bytes(8) + compression
    return start.ljust(0x200, b"\0") + payload + b"\xaa" * 200


def elf(content: bytes | None, machine: int = 62) -> bytes:
    """An ELF file with `content` as its .BTF section, or without one."""
    names = b"\0.shstrtab\0.BTF\0"
    body = names + (content or b"")
    sections = [(0, 0, 0, 0), (1, 3, 64, len(names))]
    if content is not None:
        sections.append((11, 1, 64 + len(names), len(content)))
    ident, table_at = b"\x7fELF\x02\x01\x01", 64 + len(body)
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, machine, 1, 0, 0, table_at, 0, 64, 0, 0, 64, len(sections), 1)
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0) for name, kind, offset, size in sections
    )
    return header + body + table


def deb(
    *members: tuple[tarfile.TarInfo, bytes], suffix: str = ".xz", pack: Callable[[bytes], bytes] = lzma.compress
) -> bytes:
    """A Debian package with those data members."""
    content = b"!<arch>\n"
    for name, data in (
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", lzma.compress(tar(member("./control", b"Package: linux-image-1\n")))),
        ("data.tar" + suffix, pack(tar(*members))),
    ):
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data
        content += b"\n" * (len(data) % 2)
    return content


def rpm(files: dict[str, bytes], pack: Callable[[bytes], bytes] = lzma.compress) -> bytes:
    """An RPM package with those files; a name with a trailing slash is a folder."""
    cpio = b""
    for number, (name, data) in enumerate({**files, "TRAILER!!!": b""}.items()):
        mode = 0o40755 if name.endswith("/") else 0o100644
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        cpio += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        cpio += b"\0" * (-len(cpio) % 4) + data
        cpio += b"\0" * (-len(cpio) % 4)
    entry = struct.pack(">IIII", 1000, 6, 0, 1)
    signature = b"\x8e\xad\xe8\x01\0\0\0\0" + struct.pack(">II", 1, 3) + entry + b"a\0\0"
    header = b"\x8e\xad\xe8\x01\0\0\0\0" + struct.pack(">II", 1, 5) + entry + b"name\0"
    lead = b"\xed\xab\xee\xdb\x03\0".ljust(96, b"\0")
    return lead + signature + b"\0" * (-len(signature) % 8) + header + pack(cpio)
