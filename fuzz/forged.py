"""Files made to cost time or memory, small ones for the most part, and a command that reads each of them.

`python -m fuzz.forged NAME` makes one in a folder of its own, runs its command there under limits that the kernel
enforces, and prints the processor time in seconds, the memory in MB, and the command's exit status.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hatch_bpf.cli.main import main as hatch_bpf

SECONDS = 5
MEGABYTES = 300
_ADDRESSES = 2 << 30
"""Bytes of address space a command may have: what ends one that does not stop by itself."""


@dataclass(frozen=True)
class Forged:
    """A hostile file."""

    name: str
    """The file's name, for commands that go by it."""
    make: Callable[[], bytes]
    command: tuple[str, ...]
    """What is to read it."""
    status: int = 1


def _ar(*members: tuple[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, data in members:
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode())
        parts.append(data + b"\n" * (len(data) % 2))
    return b"".join(parts)


def tar_header(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    """A header of a tar, with the right checksum."""
    header = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"0" * 11 + b"\0"
    header += b" " * 8 + kind + bytes(100) + b"ustar\x0000" + bytes(247)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def _pax(records: bytes) -> bytes:
    return tar_header(b"PaxHeaders/x", len(records), b"x") + _padded(records)


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    length += len(str(length + len(str(length))))
    return b"%d %s=%s\n" % (length, key, value)


def _sparse_digits() -> bytes:
    """A sparse file of format 1.0, the map of which is one number of 100 million digits."""
    records = _record(b"GNU.sparse.major", b"1") + _record(b"GNU.sparse.minor", b"0")
    return _pax(records) + tar_header(b"6.1.0.btf", 100 << 20) + b"1" * (100 << 20) + bytes(1024)


def _tar_of_many(count: int) -> bytes:
    return tar_header(b"x", 0) * count + bytes(1024)


def _rpm_header(tags: bytes, store: bytes, count: int) -> bytes:
    return b"\x8e\xad\xe8\1" + bytes(4) + struct.pack(">II", count, len(store)) + tags + store


def _rpm(payload: bytes, tags: bytes = b"", store: bytes = b"", count: int = 0) -> bytes:
    return b"\xed\xab\xee\xdb".ljust(96, b"\0") + _rpm_header(b"", b"", 0) + _rpm_header(tags, store, count) + payload


def _tags_of_one_string() -> bytes:
    count = 1 << 17
    tags = b"".join(struct.pack(">IIII", 1001, 6, 0, 1) for _ in range(count))
    return _rpm(gzip.compress(b""), tags, b"a" * (4 << 20), count)


def _cpio(name: bytes, count: int) -> bytes:
    header = b"070701" + b"%08x" * 13 % (0, 0o100644, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(name), 0)
    entry = header + name
    return (entry + bytes(-len(entry) % 4)) * count


def _elf_of_sections(names: bytes) -> bytes:
    """As many sections as there can be, with names that all begin in one long text."""
    count = 65_000
    start = 64
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 0, start, 0, 64, 0, 0, 64, count, count - 1
    )
    section = struct.pack("<IIQQQQIIQQ", 0, 1, 0, 0, 0, 0, 0, 0, 1, 0)
    last = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, start + 64 * count, len(names), 0, 0, 1, 0)
    return header + section * (count - 1) + last + names


_MAGIC = b"\x9f\xeb\1\0"
_VMLINUX_H = ("vmlinux-h", "FILE")
_LIST = ("kernels", "verify", "FOLDER")

FORGED: dict[str, Forged] = {
    "a member of a negative size": Forged(
        "loop.deb", lambda: b"!<arch>\n" + b"x".ljust(48) + b"-60       `\n", _VMLINUX_H
    ),
    "members without content": Forged("x.deb", lambda: _ar(*[("x", b"")] * 170_000), _VMLINUX_H),
    "a package of 2 million empty files": Forged(
        "x.deb", lambda: _ar(("data.tar.xz", lzma.compress(_tar_of_many(200_000), preset=0))), _VMLINUX_H
    ),
    "a pax header of digits": Forged(
        "6.1.0.btf.tar.xz", lambda: lzma.compress(_pax(b"1" * (1 << 20)) + bytes(1024), preset=0), _VMLINUX_H
    ),
    "a sparse map of digits": Forged("6.1.0.btf.tar.xz", lambda: lzma.compress(_sparse_digits(), preset=0), _VMLINUX_H),
    "an archive of many members": Forged(
        "6.1.0.btf.tar.xz", lambda: lzma.compress(_tar_of_many(200_000), preset=0), _VMLINUX_H
    ),
    "tags of one long string": Forged("x.rpm", _tags_of_one_string, _VMLINUX_H),
    "a header of gigabytes": Forged(
        "x.rpm",
        lambda: b"\xed\xab\xee\xdb".ljust(96, b"\0") + b"\x8e\xad\xe8\1" + bytes(4) + b"\x0f\xff\xff\xff" * 2,
        _VMLINUX_H,
    ),
    "a payload of a million files": Forged(
        "x.rpm", lambda: _rpm(lzma.compress(_cpio(b"x\0", 1_000_000), preset=0)), _VMLINUX_H
    ),
    "xz streams without content": Forged("x", lambda: lzma.compress(b"") * 300_000, _VMLINUX_H),
    "gzip streams without content": Forged("x", lambda: gzip.compress(b"", mtime=0) * 500_000, _VMLINUX_H),
    "bzip2 streams without content": Forged("x", lambda: bz2.compress(b"") * 700_000, _VMLINUX_H),
    "a gigabyte of zeros in xz": Forged("x", lambda: lzma.compress(bytes(1 << 30), preset=0), _VMLINUX_H),
    "a gigabyte of zeros in bzip2": Forged("x", lambda: bz2.compress(bytes(1 << 29)) * 2, _VMLINUX_H),
    "10 MB of bzip2": Forged("x", lambda: bz2.compress(os.urandom(4 << 20) + bytes(90 << 20)) * 2, _VMLINUX_H),
    "an image of BTF headers": Forged("x", lambda: b"MZ\0\0" + _MAGIC * (10 << 18), _VMLINUX_H),
    "a packed image of BTF headers": Forged(
        "x", lambda: lzma.compress(b"MZ\0\0" + _MAGIC * (25 << 20), preset=0), _VMLINUX_H
    ),
    "sections with one long name": Forged("vmlinux", lambda: _elf_of_sections(b"a" * (4 << 20) + b"\0"), _VMLINUX_H),
    "a release of 5,000 digits": Forged(
        "x.deb",
        lambda: b"",
        ("kernels", "add", "HOST", "--archive", "k", "--release", "5" * 5000, "--distro", "-", "--version", "-"),
    ),
}
"""What to make, by what it is."""


def run(forged: Forged) -> int:
    """Make a file and run its command; returns the exit status."""
    path = Path(forged.name)
    path.write_bytes(forged.make())
    words = {"FILE": forged.name, "FOLDER": ".", "HOST": "/sys/kernel/btf/vmlinux"}
    return hatch_bpf([words.get(word, word) for word in forged.command])


def main() -> None:
    forged = FORGED[sys.argv[1]]
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-forged-") as folder:
        os.chdir(folder)
        # made by a process of its own, whose memory does not count
        if not os.fork():
            Path(forged.name).write_bytes(forged.make())
            os._exit(0)
        os.wait()
        start = time.process_time()
        limit = int(start) + 2 * SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
        words = {"FILE": forged.name, "FOLDER": ".", "HOST": "/sys/kernel/btf/vmlinux"}
        status = hatch_bpf([words.get(word, word) for word in forged.command])
    memory = Path("/proc/self/status").read_text(encoding="ascii").split("VmHWM:")[1].split()[0]
    print(f"{time.process_time() - start:.2f} {int(memory) / 1024:.0f} {status}")


if __name__ == "__main__":
    main()
