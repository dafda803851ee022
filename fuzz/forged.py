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
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fuzz.formats import ar, btf, cpio, elf, pax, pax_record, rpm, rpm_header, tar_header
from fuzz.hostile import SHAPES
from fuzz.objects import OBJECTS
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
    """What is to read it. FILE is the file, URL a server that has it, HOST the running kernel's BTF."""


def _sparse_digits() -> bytes:
    """A sparse file of format 1.0, the map of which is one number of 100 million digits."""
    records = pax_record(b"GNU.sparse.major", b"1") + pax_record(b"GNU.sparse.minor", b"0")
    return pax(records) + tar_header(b"6.1.0.btf", 100 << 20) + b"1" * (100 << 20) + bytes(1024)


def _tar_of_many(count: int) -> bytes:
    return tar_header(b"x", 0) * count + bytes(1024)


def _tags_of_one_string() -> bytes:
    count = 1 << 17
    tags = b"".join(struct.pack(">IIII", 1001, 6, 0, 1) for _ in range(count))
    return rpm(gzip.compress(b""), rpm_header(tags, b"a" * (4 << 20), count))


def _line(number: int) -> bytes:
    """A line of an index.txt, with a release as long as may be."""
    return b"debian/12/x86_64/6.1.%d-%s\n" % (number, b"a" * 48)


_MAGIC = b"\x9f\xeb\1\0"
_CHECK = ("check", "FILE", "--match", "host")
_VMLINUX_H = ("vmlinux-h", "FILE")
_LIST = ("kernels", "list", "URL", "--match", "debian/12/x86_64/6.1-typ?")

_BTF = btf(struct.pack("<IIII", 1, 1 << 24, 4, 32), b"\0int\0")
_ADD = ("kernels", "add", "FILE", "--archive", "k", "--distro", "-", "--version", "-", "--arch", "x86_64")
_ADD_RELEASE = (*_ADD, "--release", "5" * 5000)


FORGED: dict[str, Forged] = {
    "a member of a negative size": Forged("loop.deb", lambda: ar((b"x", b""), size=b"-60"), _VMLINUX_H),
    "members without content": Forged("x.deb", lambda: ar(*[(b"x", b"")] * 170_000), _VMLINUX_H),
    "a package of many empty files": Forged(
        "x.deb", lambda: ar((b"data.tar.xz", lzma.compress(_tar_of_many(200_000), preset=0))), _VMLINUX_H
    ),
    "a pax header of digits": Forged(
        "6.1.0.btf.tar.xz", lambda: lzma.compress(pax(b"1" * (1 << 20)) + bytes(1024), preset=0), _VMLINUX_H
    ),
    "a sparse map of digits": Forged("6.1.0.btf.tar.xz", lambda: lzma.compress(_sparse_digits(), preset=0), _VMLINUX_H),
    "an archive of many members": Forged(
        "6.1.0.btf.tar.xz", lambda: lzma.compress(_tar_of_many(200_000), preset=0), _VMLINUX_H
    ),
    "tags of one long string": Forged("x.rpm", _tags_of_one_string, _VMLINUX_H),
    "a header of gigabytes": Forged(
        "x.rpm",
        lambda: rpm(b"", rpm_header(count=0x0FFFFFFF, size=0x0FFFFFFF)),
        _VMLINUX_H,
    ),
    "a payload of a million files": Forged(
        "x.rpm", lambda: rpm(lzma.compress(cpio(b"x\0") * 1_000_000, preset=0), rpm_header()), _VMLINUX_H
    ),
    "xz streams without content": Forged("x", lambda: lzma.compress(b"") * 300_000, _VMLINUX_H),
    "gzip streams without content": Forged("x", lambda: gzip.compress(b"", mtime=0) * 500_000, _VMLINUX_H),
    "bzip2 streams without content": Forged("x", lambda: bz2.compress(b"") * 700_000, _VMLINUX_H),
    "a gigabyte of zeros in xz": Forged("x", lambda: lzma.compress(bytes(1 << 30), preset=0), _VMLINUX_H),
    "120 MB with a large dictionary": Forged(
        "x",
        lambda: lzma.compress(
            bytes(119 << 20), filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 128 << 20}]
        ),
        _VMLINUX_H,
    ),
    "a gigabyte of zeros in bzip2": Forged("x", lambda: bz2.compress(bytes(1 << 29)) * 2, _VMLINUX_H),
    "10 MB of bzip2": Forged("x", lambda: bz2.compress(os.urandom(4 << 20) + bytes(90 << 20)) * 2, _VMLINUX_H),
    "an image of BTF headers": Forged("x", lambda: b"MZ\0\0" + _MAGIC * (10 << 18), _VMLINUX_H),
    "a packed image of BTF headers": Forged(
        "x", lambda: lzma.compress(b"MZ\0\0" + _MAGIC * (25 << 20), preset=0), _VMLINUX_H
    ),
    "sections with one long name": Forged(
        "vmlinux", lambda: elf(b"a" * (4 << 20) + b"\0", [(0, 1, 0, 0, 0)] * 65_000), _VMLINUX_H
    ),
    "a release of 5,000 digits": Forged("x", lambda: _BTF, _ADD_RELEASE),
    "2 million kernels": Forged("index.txt", lambda: b"".join(map(_line, range(2_400_000))), _LIST),
    "as many kernels as are taken": Forged("index.txt", lambda: b"".join(map(_line, range(32_000))), _LIST),
    "a list of empty lines": Forged("index.txt", lambda: b"\n" * (8 << 20), _LIST),
    "a list of other machines": Forged("index.txt", lambda: b"a/b/vax/c\n" * 800_000, _LIST),
    "kernels of 5,000 digits": Forged("index.txt", lambda: b"debian/12/x86_64/%s\n" % (b"6" * 5000) * 1000, _LIST),
}
FORGED |= {
    f"BTF, {shape}": Forged("vmlinux.btf", partial(make, 10 << 20), _VMLINUX_H) for shape, make in SHAPES.items()
}
FORGED |= {f"object, {what}": Forged("prog.bpf.o", make, _CHECK) for what, make in OBJECTS.items()}
"""What to make, by what it is."""
WORST = (
    "a member of a negative size",
    "a pax header of digits",
    "tags of one long string",
    "a payload of a million files",
    "120 MB with a large dictionary",
    "as many kernels as are taken",
    "a release of 5,000 digits",
    "BTF, an enum",
    "BTF, members whose names are tails",
    "BTF, structs of one name",
)
"""Each took too much, or ended in a traceback, before there was a limit against it."""


def main() -> None:
    forged = FORGED[sys.argv[1]]
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-forged-") as folder, _Served(("127.0.0.1", 0), _Quiet) as server:
        os.chdir(folder)
        os.environ["HATCH_BPF_CACHE"] = folder
        # by processes of their own, whose time and memory do not count
        if not os.fork():
            Path(forged.name).write_bytes(forged.make())
            os._exit(0)
        os.wait()
        serving = os.fork()
        if not serving:
            server.serve_forever()
        words = {
            "FILE": forged.name,
            "HOST": "/sys/kernel/btf/vmlinux",
            "URL": f"http://127.0.0.1:{server.server_port}",
        }
        limit = 2 * SECONDS
        start = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
        try:
            status = hatch_bpf([words.get(word, word) for word in forged.command])
        finally:
            os.kill(serving, signal.SIGKILL)
    memory = Path("/proc/self/status").read_text(encoding="ascii").split("VmHWM:")[1].split()[0]
    print(f"{time.process_time() - start:.2f} {int(memory) / 1024:.0f} {status}")


class _Served(ThreadingHTTPServer):
    daemon_threads = True


class _Quiet(SimpleHTTPRequestHandler):
    """Serves the current folder."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    main()
