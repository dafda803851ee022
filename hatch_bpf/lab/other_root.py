"""A tar of a root file system -> what a guest runs on, in place of this machine's Python.

Input: a tar with Python and libbpf in it, of any architecture that can be booted: `docker export` writes one. Output: a
`GuestRoot`. Nothing is unpacked to disk. Raises `LabError`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from hatch_bpf.arch import BY_ELF_MACHINE
from hatch_bpf.errors import KernelError, LabError
from hatch_bpf.kernels.formats.compression import PlainStream, plain_chunks
from hatch_bpf.kernels.formats.elf import MAGIC, machine
from hatch_bpf.kernels.formats.tar import TarMember, members
from hatch_bpf.lab import cpio
from hatch_bpf.lab.guest_files import GuestRoot
from hatch_bpf.runtime.libbpf.library import SONAMES
from hatch_bpf.runtime.printable import printable
from hatch_bpf.support.budget import Budget
from hatch_bpf.support.files import open_regular

_INTERPRETERS = ("usr/local/bin/python3", "usr/bin/python3")
_DEVICES = "dev/"


def read_root(path: Path) -> GuestRoot:
    """The root file system in a tar."""
    try:
        with open_regular(path) as file:
            budget = Budget(str(path), os.fstat(file.fileno()).st_size)
            nodes = _nodes(members(PlainStream(plain_chunks(file, budget), "this tar", source=str(path)), budget))
    except (OSError, KernelError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error).removeprefix(f"{printable(str(path))}: ")
        raise LabError(f"this root file system cannot be read: {why}", source=path) from error
    for name in _INTERPRETERS:
        real = cpio.follow(name, partial(_link_at, nodes))
        if real in nodes:
            content = nodes[real].content
            arch = BY_ELF_MACHINE.get(machine(content), "") if content.startswith(MAGIC) else ""
            version = PurePosixPath(real).name.removeprefix("python")
            return GuestRoot(nodes, f"/{name}", _find_libbpf(nodes), arch, version)
    raise LabError(f"there is no Python in it, at {' or '.join(_INTERPRETERS)}", source=path)


def _nodes(tar: Iterable[TarMember]) -> dict[str, cpio.Node]:
    nodes: dict[str, cpio.Node] = {}
    for member in tar:
        name = str(PurePosixPath(member.name.lstrip("/")))
        if name.startswith(_DEVICES) or ".." in name.split("/"):
            continue
        if member.is_folder and name != ".":
            nodes[name] = cpio.folder()
        elif member.is_symbolic_link:
            nodes[name] = cpio.link(member.link)
        elif member.is_hard_link:
            first = nodes.get(str(PurePosixPath(member.link.lstrip("/"))))
            if first is None:
                raise member.stream.fault(f"{printable(name)} is a hard link to a file that does not come before it")
            nodes[name] = first
        elif member.is_file:
            nodes[name] = cpio.file(member.read(), executable=bool(member.mode & 0o100))
    return nodes


def _link_at(nodes: Mapping[str, cpio.Node], name: str) -> str | None:
    node = nodes.get(name)
    return node.content.decode() if node and node.is_link else None


def _find_libbpf(nodes: Mapping[str, cpio.Node]) -> str:
    found = (name for soname in SONAMES for name in sorted(nodes) if name.rpartition("/")[2] == soname)
    return next((f"/{name}" for name in found), "")
