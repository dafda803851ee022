"""File systems that BPF needs: one for pins, cgroup v2, and tracefs. Input: a path. Output: what is wrong with it, in
words.

Each function returns an empty string if the path is right, and where /proc does not tell.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

MOUNTS = "/proc/self/mountinfo"
TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
"""The folders where tracefs may be mounted. Mounting debugfs mounts it at the second one."""
MOUNT_TRACEFS = "mount -t tracefs tracefs /sys/kernel/tracing"


def in_tracefs(name: str) -> str:
    """The path of a file or folder of tracefs; empty if it is not there."""
    return next(filter(os.path.exists, (f"{folder}/{name}" for folder in TRACEFS)), "")


def no_bpf_file_system(path: Union[str, os.PathLike[str]]) -> str:
    """That a path is not in a BPF file system, in which maps, programs and links are pinned; and what to do."""
    return _is_not_in(_folder_of(path), "bpf", "in a BPF file system", "mount one: mount -t bpf bpf /sys/fs/bpf")


def why_not_pinned(path: Union[str, os.PathLike[str]], code: int) -> str:
    """What `bpf_obj_pin()` means by an error, and what to do; empty if the error says it all."""
    if code == errno.ENOENT:
        return f"there is no folder {_folder_of(path)}: make it first"
    if code == errno.EEXIST:
        return "there is a file already: remove it, or open what is pinned there"
    return no_bpf_file_system(path) if code == errno.EPERM else ""


def delegation(folder: str) -> str:
    """What a BPF file system lets a user namespace do, by its mount options: `cmds=any,maps=array,progs=xdp`."""
    at = os.path.realpath(folder)
    options = [options for point, _, options in _mounts() if point == at]
    allowed = options[-1].split(",") if options else []
    return ",".join(item.partition("delegate_")[2] for item in allowed if item.startswith("delegate_"))


def no_cgroup2(folder: Union[str, os.PathLike[str]]) -> str:
    """That a folder is not a cgroup of version 2, the only one to which programs are attached; and what to do."""
    remedy = "mount one: mount -t cgroup2 none FOLDER"
    return _is_not_in(os.fspath(folder), "cgroup2", "in a cgroup v2 hierarchy", remedy)


def _folder_of(path: Union[str, os.PathLike[str]]) -> str:
    return os.path.dirname(os.path.abspath(path))


def _is_not_in(folder: str, wanted: str, words: str, remedy: str) -> str:
    real = os.path.realpath(folder)
    mounts = _mounts()
    # of several file systems on one folder the last is the visible one
    above = [(point, kind) for point, kind, _ in mounts if f"{real}/".startswith(f"{point.rstrip('/')}/")]
    longest = max((len(point) for point, _ in above), default=0)
    if next((kind for point, kind in reversed(above) if len(point) == longest), wanted) == wanted:
        return ""
    there = sorted({point for point, kind, _ in mounts if kind == wanted})
    if there:
        remedy = f"there is one at {', '.join(there)}"
    return f"{folder} is not {words}; {remedy}"


def _mounts() -> list[tuple[str, str, str]]:
    """Folder, type and own options of every mounted file system, in the order of mounting; none if it can't be read."""
    try:
        with open(MOUNTS, "rb") as file:
            lines = [line.partition(b" - ") for line in file]
        systems = [(before.split()[4], after.split()) for before, _, after in lines]
        return [(_unescaped(point), os.fsdecode(system[0]), os.fsdecode(system[-1])) for point, system in systems]
    except (OSError, IndexError):
        return []


def _unescaped(point: bytes) -> str:
    for char in (b" ", b"\t", b"\n", b"\\"):  # the backslash last, since the others are written with one
        point = point.replace(b"\\%03o" % ord(char), char)
    return os.fsdecode(point)
