"""Boot a kernel by qemu. Input: its architecture, an image and an initramfs. Output: the console's text, or `LabError`.

The processor is virtualized by KVM if this machine can, else emulated by qemu (TCG), so that arm64 boots on x86_64 too.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hatch_bpf.arch import build_machine
from hatch_bpf.errors import LabError
from hatch_bpf.portability.trial import signal_name

BOOT_SECONDS = {"kvm": 20.0, "tcg": 90.0}
"""How long a guest may take to come up, by accelerator. Emulated, a boot takes 5 to 15 seconds; other work on the
machine makes it slower."""
KVM = Path("/dev/kvm")
_GET_API_VERSION, _API_VERSION = 0xAE00, 12
_POLL = 0.1
_LAST_LINE = 4096
"""How much of a console's end is searched for the last line."""
CONSOLE_BYTES = 16 << 20
"""How much a guest may write on its console."""


@dataclass(frozen=True)
class Machine:
    """How qemu makes a machine of one architecture."""

    program: str
    options: tuple[str, ...]
    cpu_emulated: str
    console: str
    packages: str
    """What to install for it."""


MACHINES = {
    "x86_64": Machine(
        "qemu-system-x86_64",
        ("-machine", "pc"),
        # Without cmpxchg16b the kernel's allocator goes another way: with it, a third of 6.12's boots under qemu 7.2
        # die of a corrupt free list.
        "max,cx16=off",
        "ttyS0",
        "apt install qemu-system-x86, dnf install qemu-system-x86-core, apk add qemu-system-x86_64",
    ),
    "arm64": Machine(
        "qemu-system-aarch64",
        ("-machine", "virt"),
        "cortex-a72",
        "ttyAMA0",
        "apt install qemu-system-arm, dnf install qemu-system-aarch64-core, apk add qemu-system-aarch64",
    ),
}
"""The architectures whose kernels can be booted."""

_OPTIONS = ("-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio")


_TIED = """\
import ctypes, os, sys
set_parent_death_signal, kill = 1, 9
ctypes.CDLL(None).prctl(set_parent_death_signal, kill)
parent, *argv = sys.argv[1:]
if os.getppid() == int(parent):
    os.execv(argv[0], argv)
"""
"""Run a program that is killed when the thread that started it ends: qemu goes even if this process is killed."""


@dataclass(frozen=True)
class Ran:
    """How a machine ran."""

    console: str
    seconds: float
    stopped: str
    """Why it was stopped; empty if it switched itself off."""


def find_qemu(arch: str) -> str:
    """The path of qemu for an architecture. Raises `LabError`, which names the package to install."""
    machine = MACHINES[arch]
    path = shutil.which(machine.program)
    if path is None:
        raise LabError(f"{machine.program}, which boots kernels of {arch}, is not installed: {machine.packages}")
    return path


@lru_cache
def has_kvm(arch: str) -> bool:
    """Whether this machine offers to run kernels of an architecture on its own processor."""
    own = build_machine()
    if own is None or own.name != arch:
        return False
    try:
        with KVM.open("r+b", buffering=0) as device:
            return fcntl.ioctl(device, _GET_API_VERSION) == _API_VERSION
    except OSError:
        return False


def command_line(
    arch: str, image: Path, initramfs: Path, *, megabytes: int, accel: str, parameters: Sequence[str]
) -> list[str]:
    """qemu's command line for a kernel. Raises `LabError`."""
    machine, qemu = MACHINES[arch], find_qemu(arch)
    # a kernel that stumbles panics, and then reboots at once, which -no-reboot makes an exit
    kernel = " ".join((f"console={machine.console}", "quiet", "oops=panic", "panic=-1", *parameters))
    cpu = "host" if accel == "kvm" else machine.cpu_emulated
    gic = ("-machine", "gic-version=host") if accel == "kvm" and arch == "arm64" else ()
    return [
        *(qemu, *machine.options, *gic, "-accel", accel, "-cpu", cpu, "-m", str(megabytes), *_OPTIONS),
        *("-kernel", str(image), "-initrd", str(initramfs), "-append", kernel),
    ]


def run_guest(
    argv: Sequence[str],
    console: Path,
    stop: threading.Event,
    *,
    mark: str,
    last: str,
    boot_seconds: float,
    seconds: float,
) -> Ran:
    """Run qemu until it ends or takes too long, or until `stop` is set; nothing of it is left then.

    The guest is up once it has said `mark`. It is done with the line in which it says `last`: not every machine can
    switch itself off. What it writes is bounded by `CONSOLE_BYTES`.
    """
    boot_seconds = min(boot_seconds, seconds)
    start = time.monotonic()
    with console.open("wb") as out:
        # a session of its own, so that Ctrl-C in the terminal comes here alone
        process = subprocess.Popen(
            [sys.executable, "-IS", "-c", _TIED, str(os.getpid()), *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    stopped = ""
    is_up = False
    said = bytearray()
    with console.open("rb") as reader:
        try:
            while process.poll() is None and not stopped:
                stop.wait(_POLL)
                said += reader.read(CONSOLE_BYTES)  # without a bound it would go on for as long as qemu writes
                _, is_done, rest = said[-_LAST_LINE:].rpartition(last.encode())
                if is_done and b"\n" in rest:
                    break
                is_up = is_up or mark.encode() in said
                if stop.is_set():
                    stopped = "interrupted"
                elif len(said) > CONSOLE_BYTES:
                    stopped = f"it wrote more than {CONSOLE_BYTES >> 20} MB on its console"
                elif not is_up and time.monotonic() - start > boot_seconds:
                    stopped = f"it was not up after {boot_seconds:.0f} seconds"
                elif time.monotonic() - start > seconds:
                    stopped = f"it was not done after {seconds:.0f} seconds: give it more with --timeout"
            if process.returncode is not None and process.returncode < 0:
                stopped = f"{signal_name(-process.returncode)} ended qemu"
        finally:
            process.kill()
            process.wait()
        said += reader.read(CONSOLE_BYTES)
    text = said.decode(errors="replace").replace("\r\n", "\n")
    return Ran(text, time.monotonic() - start, stopped)
