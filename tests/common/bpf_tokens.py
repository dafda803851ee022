"""A process in namespaces of its own, for which root mounts a BPF file system with delegation.

It goes as in the kernel's own test, tools/testing/selftests/bpf/prog_tests/token.c: the process opens the file system
in its user namespace, which therefore owns it, and hands it to root, who sets the options and creates it.
"""

from __future__ import annotations

import array
import ctypes
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.common import needs

ALL = {"delegate_cmds": "any", "delegate_maps": "any", "delegate_progs": "any", "delegate_attachs": "any"}
_FSCONFIG = 431
_SET_STRING, _CMD_CREATE = 1, 6
_INSIDE = """
import ctypes, os, socket, subprocess, sys

FSOPEN, FSMOUNT, MOVE_MOUNT, AT_FDCWD, F_EMPTY_PATH = 430, 432, 429, -100, 4
NEWNS, NEWUSER, NEWNET = 0x00020000, 0x10000000, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def say(text):
    root.sendall(text)
    return root.recv(1)


root = socket.socket(fileno=int(sys.argv[1]))
check(libc.unshare(NEWNS | NEWUSER | NEWNET))
say(b"apart")
os.setresgid(0, 0, 0)
os.setresuid(0, 0, 0)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
fs = check(libc.syscall(FSOPEN, b"bpf", 0))
socket.send_fds(root, [b"made"], [fs])
assert root.recv(1) == b"!", "the file system could not be created"
mount = check(libc.syscall(FSMOUNT, fs, 0, 0))
check(libc.syscall(MOVE_MOUNT, mount, b"", AT_FDCWD, sys.argv[2].encode(), F_EMPTY_PATH))
TOKEN = sys.argv[2]
"""


def run_inside(
    code: str, folder: Path, *, at: Path, delegate: Mapping[str, str] = ALL, python_path: Path
) -> subprocess.CompletedProcess[str]:
    """Run Python as root of a new user, mount and network namespace, with a BPF file system mounted on `at`.

    In `code`, `TOKEN` is that folder, and `lo` is up.
    """
    needs.root_bpf()
    script = folder / "inside.py"
    script.write_text(_INSIDE + textwrap.dedent(code))
    here, there = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, script, str(there.fileno()), at],
        pass_fds=[there.fileno()],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(python_path), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    there.close()
    with here, process:
        here.settimeout(30)
        if here.recv(5) == b"apart":
            _map_root(process.pid)
            here.sendall(b"!")
            _create(here, delegate)
        said = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, *said)


def _map_root(pid: int) -> None:
    """Make the namespace's root this machine's, which there has no rights outside."""
    Path(f"/proc/{pid}/uid_map").write_text("0 0 1")
    Path(f"/proc/{pid}/gid_map").write_text("0 0 1")


def _create(here: socket.socket, delegate: Mapping[str, str]) -> None:
    fds = array.array("i")
    said, ancillary, *_ = here.recvmsg(4, socket.CMSG_SPACE(fds.itemsize))
    if said != b"made":
        return
    for _, _, data in ancillary:
        fds.frombytes(data)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        for option, value in delegate.items():
            _check(libc.syscall(_FSCONFIG, fds[0], _SET_STRING, option.encode(), value.encode(), 0))
        _check(libc.syscall(_FSCONFIG, fds[0], _CMD_CREATE, None, None, 0))
        here.sendall(b"!")
    finally:
        os.close(fds[0])


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@cache
def _why_not() -> str:
    """Why this kernel can delegate nothing; empty if it can."""
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "bpf", "-o", "delegate_cmds=any", "bpf", "/sys/fs/bpf"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return f"mount refuses delegate_cmds: {done.stderr.strip()}"
    done = subprocess.run(["unshare", "--user", "true"], capture_output=True, text=True, check=False)
    return f"there are no user namespaces: {done.stderr.strip()}" if done.returncode else ""


def needed() -> None:
    """A kernel with BPF tokens, Linux 6.9 or newer; an older one is a skip, also in CI."""
    needs.root_bpf()
    if reason := _why_not():
        pytest.skip(reason)
