"""BPF file systems, in which maps, programs and links are pinned. Input: a path. Output: why pinning fails there."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

MOUNTS = "/proc/self/mountinfo"


def no_bpf_file_system(path: Union[str, os.PathLike[str]]) -> str:
    """That a path is not in a BPF file system, and what to do; empty if it is, or if that can't be found out."""
    folder = os.path.realpath(os.path.dirname(os.path.abspath(os.fspath(path))))
    try:
        mounts = _mounts()
    except (OSError, IndexError):
        return ""
    # of several file systems on one folder the last is the visible one
    above = [(point, kind) for point, kind in mounts if f"{folder}/".startswith(f"{point.rstrip('/')}/")]
    longest = max((len(point) for point, _ in above), default=0)
    kind = next((kind for point, kind in reversed(above) if len(point) == longest), "bpf")
    if kind == "bpf":
        return ""
    there = sorted({point for point, kind in mounts if kind == "bpf"})
    remedy = f"there is one at {', '.join(there)}" if there else "mount one: mount -t bpf bpf /sys/fs/bpf"
    return f"{folder} is not in a BPF file system; {remedy}"


def _mounts() -> list[tuple[str, str]]:
    """Folder and type of every mounted file system, in the order of mounting."""
    with open(MOUNTS, "rb") as file:
        lines = [line.partition(b" - ") for line in file]
    return [(_unescaped(before.split()[4]), os.fsdecode(after.split()[0])) for before, _, after in lines]


def _unescaped(point: bytes) -> str:
    for char in (b" ", b"\t", b"\n", b"\\"):  # the backslash last, since the others are written with one
        point = point.replace(b"\\%03o" % ord(char), char)
    return os.fsdecode(point)
