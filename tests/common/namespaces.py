"""Fresh namespaces and a fresh cgroup, for tests that attach to them. Both need root."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.common import needs, tracefs

_CLONE_NEWNET = 0x40000000
_SCRIPT = """\
set -e
[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing
[ -e /sys/fs/cgroup/cgroup.procs ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
exec "$@"
"""
IN_OWN_NAMESPACES = ("unshare", "--mount", "--net", "sh", "-c", _SCRIPT, "sh")
"""Runs a command with a network and a BPF file system of its own, and tracefs and cgroup v2 at their usual places."""


@contextmanager
def own_loopback() -> Iterator[str]:
    """Move this thread into a new network namespace; the name of its loopback interface."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before:
        if libc.unshare(_CLONE_NEWNET):
            needs.missing("a network namespace needs root")
        try:
            subprocess.run([needs.tool("ip"), "link", "set", "lo", "up"], check=True)
            yield "lo"
        finally:
            assert libc.setns(before.fileno(), _CLONE_NEWNET) == 0


@contextmanager
def own_cgroup() -> Iterator[Path]:
    """Move this process into a new cgroup; its folder."""
    root = needs.cgroup2()
    folder = root / f"hatch-bpf-test-{os.getpid()}"
    folder.mkdir()
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next(line.split("::")[1].strip() for line in lines if "::" in line)
    try:
        (folder / "cgroup.procs").write_text(str(os.getpid()))
        yield folder
    finally:
        (root / own.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
        folder.rmdir()


@contextmanager
def own_bpf_file_system(folder: Path) -> Iterator[Path]:
    """Mount a BPF file system at a new folder; the folder."""
    needs.root_bpf()
    tracefs.mounted()  # first, since it may give this process mounts of its own
    folder.mkdir()
    if subprocess.run(["mount", "-t", "bpf", "bpf", str(folder)], check=False).returncode:
        needs.missing("no BPF file system can be mounted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
