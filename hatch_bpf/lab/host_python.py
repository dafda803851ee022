"""The Python that runs this, as files for a guest: interpreter, standard library, and the libraries that these need.

Input: nothing. Output: a `GuestRoot` with files at the same paths as here, and libbpf if this machine has it. What is
installed beside the standard library stays out. Needs `ldd`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from hatch_bpf.errors import LabError
from hatch_bpf.lab import cpio
from hatch_bpf.lab.compiled import PYTHON_VERSION
from hatch_bpf.lab.guest_files import GuestRoot
from hatch_bpf.runtime.errors import LibbpfNotFoundError
from hatch_bpf.runtime.libbpf.library import find

_LEFT_OUT = {
    "dist-packages",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
}
"""Folders of the standard library that no program needs in a guest."""
_LEFT_OUT_MODULES = ("_tkinter.", "_test", "_ctypes_test.", "xx")
"""Prefixes of C extensions that no program needs there; tkinter's needs all of X."""
_BUILDS = "config-"
"""Prefix of the folder with what it takes to compile C extensions."""
_NEEDED = re.compile(r"^\s*(?:.* => )?(/.*) \(0x", re.MULTILINE)
"""A line of ldd's: `libm.so.6 => /lib/libm.so.6 (0x...)`, or `/lib64/ld-linux-x86-64.so.2 (0x...)`."""
_LIBRARY_CACHE = Path("/etc/ld.so.cache")
"""Where the dynamic linker finds libraries outside of its own folders."""


def interpreter() -> Path:
    """The interpreter itself: in a virtual environment, that behind it."""
    return Path(os.path.realpath(sys.executable))


def host_root(arch: str) -> GuestRoot:
    """What guests of this machine's architecture run on. Raises `LabError`."""
    python, libbpf = interpreter(), _libbpf()
    folders = dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
    library = [path for folder in folders for path in _standard_library(folder)]
    binaries = [python, *(path for path in library if path.suffix == ".so"), *([libbpf] if libbpf else ())]
    nodes: dict[str, cpio.Node] = {}
    for path in dict.fromkeys((*binaries, *library, *_needed(binaries))):
        _add(nodes, path)
    if _LIBRARY_CACHE.exists():
        _add(nodes, _LIBRARY_CACHE)
    return GuestRoot(nodes, str(python), str(libbpf or ""), arch, PYTHON_VERSION)


def _libbpf() -> Path | None:
    """This machine's libbpf, as the runtime finds it; None if there is none."""
    try:
        return Path(find())
    except LibbpfNotFoundError:
        return None


def _add(nodes: dict[str, cpio.Node], path: Path) -> None:
    """Add a file of this machine at its own path, with the symbolic links on the way to it."""

    def link_at(name: str) -> str | None:
        place = Path("/", name)
        if not place.is_symlink():
            return None
        target = str(place.readlink())
        nodes[name] = cpio.link(target)
        return target

    real = cpio.follow(str(path).lstrip("/"), link_at)
    nodes[real] = cpio.file(Path("/", real).read_bytes(), executable=os.access(f"/{real}", os.X_OK))


def _standard_library(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith(_BUILDS))
        for name in sorted(names):
            is_code = name.endswith((".py", ".so")) or ".so." in name
            if is_code and not name.startswith(_LEFT_OUT_MODULES):
                yield Path(parent, name)


def _needed(binaries: Iterable[Path]) -> list[Path]:
    """The shared libraries that some binaries are linked with, the dynamic linker among them."""
    ldd = shutil.which("ldd")
    if ldd is None:
        raise LabError("ldd, which tells what libraries a Python needs, is not installed; it comes with the C library")
    done = subprocess.run(
        [ldd, *map(str, binaries)], capture_output=True, text=True, errors="surrogateescape", check=False
    )
    return [Path(path) for path in dict.fromkeys(_NEEDED.findall(done.stdout))]
