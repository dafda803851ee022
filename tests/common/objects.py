"""Real CO-RE objects to test with, cut out of the programs of Debian's libbpf-tools on demand.

Each program of that package embeds one whole BPF object; programs under several names (symbolic links) count once.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path

from hatch_bpf.kernels.formats.elf import EM_BPF
from hatch_bpf.objects.model import ObjectModel, read_object
from tests.common import needs

_ELF = b"\x7fELF"


def carved() -> dict[str, bytes]:
    """The objects, by name of their program; skips (under CI=true fails) where libbpf-tools is not installed."""
    objects = _carve()
    if not objects:
        needs.missing("libbpf-tools is not installed")
    return objects


@cache
def models() -> dict[str, ObjectModel]:
    """The same, read."""
    return {name: read_object(data, path=f"{name}.bpf.o") for name, data in carved().items()}


@cache
def _carve() -> dict[str, bytes]:
    if shutil.which("dpkg") is None:
        return {}
    listing = subprocess.run(["dpkg", "-L", "libbpf-tools"], capture_output=True, text=True, check=False)
    files = [Path(line) for line in listing.stdout.splitlines()]
    programs = sorted(path for path in files if path.parent.name == "sbin" and path.is_file() and not path.is_symlink())
    return {path.name: data for path in programs if (data := _embedded_object(path.read_bytes())) is not None}


def _embedded_object(program: bytes) -> bytes | None:
    """The BPF ELF file inside another ELF file. It ends with its section headers."""
    at = program.find(_ELF, len(_ELF))
    while at >= 0:
        (machine,) = struct.unpack_from("<H", program, at + 18)
        if machine == EM_BPF:
            (headers,) = struct.unpack_from("<Q", program, at + 40)
            size, count = struct.unpack_from("<HH", program, at + 58)
            return program[at : at + headers + size * count]
        at = program.find(_ELF, at + 1)
    return None
