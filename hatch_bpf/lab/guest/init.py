"""A guest's first process: set the machine up, load every program, run the command, say how it went, switch off.

Input: `/lab/plan.json`, which `hatch_bpf/lab/guest_files.py` writes. Output: on the console, a line of JSON behind the
plan's mark for each thing that happened, with the command's own output between two of them.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import traceback
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from hatch_bpf.lab.guest.loading import load_alone
from hatch_bpf.runtime.libbpf.bundled import load_bundled
from hatch_bpf.runtime.libbpf.library import Libbpf

LAB = "/lab"
OWN_BTF = "/sys/kernel/btf"
MOUNTS = (
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tracefs", "/sys/kernel/tracing"),
    ("debugfs", "/sys/kernel/debug"),
    ("tmpfs", "/dev/shm"),
)
"""File system and place. Each kernel mounts those that it has."""
POWER_OFF = 0x4321FEDC
_POLL = 0.1
EMERGENCIES_ONLY = 1
"""The console's log level: what the kernel says besides would end up among the results."""


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
    try:
        _survive_interrupts()
        with open(f"{LAB}/plan.json") as file:
            plan = json.load(file)
        _set_up(libc)
        _Guest(plan, libc).work()
    except BaseException:
        # the first process must not end: the kernel would panic, and hide what is wrong behind its own words
        traceback.print_exc()
    sys.stdout.flush()
    libc.reboot(POWER_OFF)


class _Guest:
    """One boot's work."""

    def __init__(self, plan: Mapping[str, Any], libc: ctypes.CDLL) -> None:
        self._plan = plan
        self._libc = libc

    def work(self) -> None:
        self._say(up=True, release=os.uname().release)
        if os.path.exists(f"{OWN_BTF}/vmlinux"):
            self._load_all_in_child("own")
        if self._plan["hidden"]:
            if os.path.isdir(OWN_BTF):
                _mount(self._libc, "tmpfs", OWN_BTF)
            self._load_all_in_child("hidden")
            self._libc.umount(OWN_BTF.encode())
        if self._plan["command"]:
            self._run(self._plan["command"])
        self._say(done=True, oom=_oom_kills())

    def _say(self, **record: Any) -> None:
        print(f"\n{self._plan['mark']}{json.dumps(record)}", flush=True)

    def _load_all_in_child(self, way: str) -> None:
        """In a child process: a crash in libbpf must not end the guest's first process."""
        sys.stdout.flush()
        child = os.fork()
        if not child:
            status = 1
            try:
                self._load_all(way)
                status = 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            os._exit(status)
        os.waitpid(child, 0)

    def _load_all(self, way: str) -> None:
        for item in self._plan["objects"]:
            libbpf = _libbpf(self._plan["libbpf"], *item["libraries"])
            with open(item["path"], "rb") as file:
                data = file.read()
            names = [program["name"] for program in item["programs"]]
            for program in item["programs"]:
                name = program["name"]
                self._say(way=way, object=item["name"], program=name, begins=True)
                record = load_alone(
                    libbpf,
                    data,
                    os.path.basename(item["name"]).partition(".")[0],
                    name,
                    names,
                    btf=item["btf"] if way == "hidden" else None,
                    attach=program["attach"],
                )
                self._say(way=way, object=item["name"], program=name, **record)

    def _run(self, command: list[str]) -> None:
        self._say(command="begins")
        sites = self._plan["path"]
        environment = {"PATH": sites["bin"], "PYTHONPATH": sites["site"], "HOME": "/root", "LANG": "C.UTF-8"}
        try:
            running = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self._plan["folder"],
                env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except OSError as error:
            self._say(command="not started", error=error.strerror)
            return
        assert running.stdout is not None
        _copy_output(running, running.stdout.fileno())
        self._say(command="ends", status=running.wait())


@lru_cache(None)
def _libbpf(installed: str, *bundled: str) -> Libbpf:
    """The package's own libbpf if it has one, else the one that is installed here."""
    return Libbpf(*load_bundled(*bundled)) if bundled else Libbpf(installed)


def _copy_output(running: subprocess.Popen[bytes], fd: int) -> None:
    """Copy a command's output until it ends. What it leaves running may hold its output open."""
    while True:
        has_ended = running.poll() is not None
        ready, _, _ = select.select([fd], [], [], 0 if has_ended else _POLL)
        chunk = os.read(fd, 65536) if ready else b""
        if not chunk and (ready or has_ended):
            return
        os.write(1, chunk)


def _survive_interrupts() -> None:
    """Handle SIGINT by doing nothing. The kernel spares the first process signals without a handler, but Python has
    one for this. If it were ignored, the command would ignore it too."""
    signal.signal(signal.SIGINT, lambda *_: None)


def _set_up(libc: ctypes.CDLL) -> None:
    for kind, place in MOUNTS:
        if os.path.isdir(place) or place.startswith("/dev/"):
            os.makedirs(place, exist_ok=True)
            _mount(libc, kind, place)
    libc.klogctl(8, None, EMERGENCIES_ONLY)
    attributes = termios.tcgetattr(1)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(1, termios.TCSANOW, attributes)
    if not os.path.exists("/dev/fd"):
        os.symlink("/proc/self/fd", "/dev/fd")
    _start_loopback()


def _mount(libc: ctypes.CDLL, kind: str, place: str) -> None:
    libc.mount(kind.encode(), place.encode(), kind.encode(), 0, None)


def _start_loopback() -> None:
    get_flags, set_flags, is_up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, get_flags, request), 16)
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", flags | is_up))


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory."""
    with open("/proc/vmstat") as file:
        counts = dict(line.split() for line in file)
    return int(counts.get("oom_kill", 0))
