"""A tar of a root file system -> what a guest runs on, in place of this machine's Python.

Input: a tar with Python and libbpf in it, of any architecture that can be booted: `docker export` writes one. Output: a
`GuestRoot`. Nothing is unpacked to disk. Raises `LabError`.
"""

from __future__ import annotations

import os.path
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from hatch_bpf.arch import BY_ELF_MACHINE
from hatch_bpf.errors import LabError
from hatch_bpf.kernels.formats.elf import MAGIC, machine
from hatch_bpf.lab import cpio
from hatch_bpf.lab.guest_files import GuestRoot
from hatch_bpf.runtime.libbpf.library import SONAMES

_INTERPRETERS = ("usr/local/bin/python3", "usr/bin/python3")
_LINKS = 40
"""Symbolic links that are followed for one path, as in Linux."""
_DEVICES = "dev/"


def read_root(path: Path) -> GuestRoot:
    """The root file system in a tar."""
    try:
        with tarfile.open(path) as tar:
            nodes = _nodes(tar)
    except (OSError, tarfile.TarError) as error:
        raise LabError(f"this root file system cannot be read: {error}", source=path) from error
    for name in _INTERPRETERS:
        real = _resolve(nodes, name)
        if real in nodes:
            content = nodes[real].content
            arch = BY_ELF_MACHINE.get(machine(content), "") if content.startswith(MAGIC) else ""
            version = PurePosixPath(real).name.removeprefix("python")
            return GuestRoot(nodes, f"/{name}", _find_libbpf(nodes), arch, version)
    raise LabError(f"there is no Python in it, at {' or '.join(_INTERPRETERS)}", source=path)


def _nodes(tar: tarfile.TarFile) -> dict[str, cpio.Node]:
    nodes: dict[str, cpio.Node] = {}
    for member in tar:
        name = str(PurePosixPath(member.name.lstrip("/")))
        if name.startswith(_DEVICES) or ".." in name.split("/"):
            continue
        if member.isdir() and name != ".":
            nodes[name] = cpio.folder()
        elif member.issym():
            nodes[name] = cpio.link(member.linkname)
        elif member.islnk():
            nodes[name] = nodes[str(PurePosixPath(member.linkname.lstrip("/")))]
        elif member.isreg():
            content = tar.extractfile(member)
            assert content is not None  # it is a regular file
            nodes[name] = cpio.file(content.read(), executable=bool(member.mode & 0o100))
    return nodes


def _resolve(nodes: Mapping[str, cpio.Node], name: str) -> str:
    """Where a path leads, with the symbolic links of every part."""
    here, left = "", name.split("/")
    followed = 0
    while left and followed < _LINKS:
        step = os.path.normpath(f"{here}/{left.pop(0)}").lstrip("/")
        node = nodes.get(step)
        if node is not None and node.is_link:
            followed += 1
            target = os.path.join(f"/{here}", node.content.decode())
            here, left = "", [*os.path.normpath(target).strip("/").split("/"), *left]
        else:
            here = step
    return here


def _find_libbpf(nodes: Mapping[str, cpio.Node]) -> str:
    for soname in SONAMES:
        for name in sorted(nodes):
            if name.rpartition("/")[2] == soname:
                return f"/{name}"
    return ""
