"""Files in memory -> a cpio archive in the newc format, as the kernel unpacks it into its first root file system.

The kernel unpacks several such archives in a row: a root file system, then what a test adds to it.
"""

from __future__ import annotations

import os.path
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_LINKS = 40
"""Symbolic links that are followed for one path, as in Linux."""


@dataclass(frozen=True)
class Node:
    """A file, folder, symbolic link or character device."""

    mode: int
    """Type and permissions, as in stat(2)."""
    content: bytes = b""
    """The target of a symbolic link."""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a character device."""

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


def file(content: bytes | str, *, executable: bool = False) -> Node:
    data = content.encode() if isinstance(content, str) else content
    return Node(stat.S_IFREG | (0o755 if executable else 0o644), data)


def folder() -> Node:
    return Node(stat.S_IFDIR | 0o755)


def link(target: str) -> Node:
    return Node(stat.S_IFLNK | 0o777, target.encode())


def character_device(major: int, minor: int) -> Node:
    return Node(stat.S_IFCHR | 0o666, device=(major, minor))


def tree(path: Path, under: str) -> dict[str, Node]:
    """A folder of this machine, with all that is in it, as nodes under another name. Pipes and sockets are left out."""
    nodes = {under: folder()}
    for found in sorted(path.rglob("*")):
        name = f"{under}/{found.relative_to(path).as_posix()}"
        if found.is_symlink():
            nodes[name] = link(str(found.readlink()))
        elif found.is_dir():
            nodes[name] = folder()
        elif found.is_file():
            nodes[name] = file(found.read_bytes(), executable=bool(found.stat().st_mode & 0o100))
    return nodes


def follow(path: str, link_at: Callable[[str], str | None]) -> str:
    """Where the symbolic links of a path lead. `link_at` returns the target of a link, and None for anything else.

    Paths have no leading slash. As in Linux, it gives up after 40 links: then the path leads nowhere.
    """
    here, left = "", path.split("/")
    followed = 0
    while left and followed < _LINKS:
        step = os.path.normpath(f"/{here}/{left.pop(0)}").lstrip("/")
        target = link_at(step)
        if target is None:
            here = step
        else:
            followed += 1
            left = [*os.path.normpath(os.path.join("/", here, target)).strip("/").split("/"), *left]
            here = ""
    return here


def pack(nodes: Mapping[str, Node]) -> bytes:
    """A cpio archive of the nodes, each under its path without a leading slash; missing folders are put in."""
    whole = dict(nodes)
    for path in nodes:
        for parent in PurePosixPath(path).parents:
            if parent.name:
                whole.setdefault(str(parent), folder())
    packed = bytearray()
    # sorted, a folder comes before what is in it
    for number, (path, node) in enumerate(sorted(whole.items()), 1):
        _append(packed, number, path, node)
    _append(packed, 0, "TRAILER!!!", Node(0))
    # the next archive starts on a whole block
    packed += bytes(-len(packed) % 512)
    return bytes(packed)


def _append(packed: bytearray, number: int, path: str, node: Node) -> None:
    name = path.encode() + b"\0"
    fields = (number, node.mode, 0, 0, 1, 0, len(node.content), 0, 0, *node.device, len(name), 0)
    packed += b"070701" + b"".join(b"%08x" % field for field in fields) + name
    packed += bytes(-len(packed) % 4) + node.content
    packed += bytes(-len(packed) % 4)
