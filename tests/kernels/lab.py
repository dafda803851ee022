"""Boot a real kernel under qemu, run a command in it, and hand back what it printed.

Input: a kernel of Debian's, the files to put in, a command. Output: an `Outcome`, or `LabError`. qemu emulates the
processor (TCG), so no virtualization is needed and arm64 boots on x86_64 too.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.packages import vmlinuz_of_deb
from tests.kernels import cpio, guest
from tests.kernels.debian import Apt

HOME = "lab"
"""The folder of the virtual machine that the given files are in and the command starts in."""
MEMORY = "1G"
TIMEOUT = 240
"""Seconds for boot and command. A boot takes 5 to 15; other work on the machine makes it slower."""


@dataclass(frozen=True)
class Machine:
    """How qemu emulates an architecture."""

    command: tuple[str, ...]
    console: str


MACHINES = {
    "x86_64": Machine(("qemu-system-x86_64", "-machine", "pc", "-cpu", "max"), "ttyS0"),
    "arm64": Machine(("qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a72"), "ttyAMA0"),
}


class LabError(Exception):
    """The virtual machine did not get through its command; the message ends with what its console said last."""


@dataclass(frozen=True)
class Outcome:
    """What a command did in a virtual machine."""

    status: int
    """Its exit status."""
    output: str
    """What it wrote to its standard output and error."""
    seconds: float
    """From the start of qemu to its end."""

    def records(self) -> list[dict[str, Any]]:
        """The lines of the output that are JSON objects."""
        return [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]


class Lab:
    """Boots kernels; keeps packages and root file systems in a cache folder."""

    def __init__(self, apt: Apt | None = None) -> None:
        self._apt = apt or Apt()
        self._lock = threading.Lock()
        self._roots: dict[tuple[str, str], bytes] = {}

    def run(
        self,
        kernel: Kernel,
        command: str,
        *,
        files: Mapping[str, cpio.Node],
        suite: str = "bookworm",
        hide_btf: bool = False,
        timeout: float = TIMEOUT,
    ) -> Outcome:
        """Boot the kernel and run a shell command among `files` (paths relative to the command's folder).

        `suite` chooses Python and libbpf. `hide_btf` makes /sys/kernel/btf empty, as on a kernel without BTF.
        """
        begin, end = f"begin-{secrets.token_hex(8)}", f"end-{secrets.token_hex(8)}"
        added = {f"{HOME}/{name}": node for name, node in files.items()}
        for name, content in (("command", command), ("begin", begin), ("end", end)):
            added[f"{HOME}/{name}"] = cpio.file(content + "\n")
        machine = MACHINES[kernel.arch]
        with tempfile.TemporaryDirectory(prefix="hatch-bpf-lab-") as scratch:
            image, initrd = Path(scratch, "vmlinuz"), Path(scratch, "initrd")
            image.write_bytes(self._image(kernel))
            initrd.write_bytes(self._root(suite, kernel.arch) + cpio.pack(added))
            options = [
                "-accel",
                "tcg",
                "-m",
                MEMORY,
                "-nodefaults",
                "-display",
                "none",
                "-no-reboot",
                "-serial",
                "stdio",
            ]
            # panic=-1: reboot at once, which -no-reboot makes an exit
            line = f"console={machine.console} quiet panic=-1" + (" lab.hide-btf" if hide_btf else "")
            start = time.monotonic()
            try:
                done = subprocess.run(
                    [*machine.command, *options, "-kernel", image, "-initrd", initrd, "-append", line],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                )
            except FileNotFoundError:
                raise LabError(f"{machine.command[0]} is not installed; it is in qemu-system-x86 or -arm") from None
            except subprocess.TimeoutExpired as error:
                raise LabError(f"{kernel}: not done after {timeout} seconds\n{_tail(error.stdout or b'')}") from None
        return _outcome(kernel, done.stdout, begin=begin, end=end, seconds=time.monotonic() - start)

    def package(self, kernel: Kernel) -> Path:
        """The Debian package that has the kernel."""
        # one apt at a time, whatever number of threads boot
        with self._lock:
            return self._apt.fetch(kernel)

    def _image(self, kernel: Kernel) -> bytes:
        """The kernel's vmlinuz."""
        package = self.package(kernel)
        with package.open("rb") as file:
            return vmlinuz_of_deb(file, str(package))

    def _root(self, suite: str, arch: str) -> bytes:
        """The packed root file system."""
        with self._lock:
            if (suite, arch) not in self._roots:
                self._roots[suite, arch] = guest.root(guest.SUITES[suite], arch, self._apt)
            return self._roots[suite, arch]


def wheels(paths: Iterable[Path], under: str = "site") -> dict[str, cpio.Node]:
    """The files of pure wheels, as pip would install them into a folder to put on PYTHONPATH."""
    nodes = {}
    for path in paths:
        with zipfile.ZipFile(path) as opened:
            for info in opened.infolist():
                if not info.is_dir():
                    nodes[f"{under}/{info.filename}"] = cpio.file(opened.read(info))
    return nodes


def _outcome(kernel: Kernel, console: bytes, *, begin: str, end: str, seconds: float) -> Outcome:
    text = console.decode(errors="replace").replace("\r\n", "\n")
    _, began, rest = text.partition(begin + "\n")
    output, ended, status = rest.rpartition("\n" + end)
    if not began or not ended:
        what = "stopped during its command" if began else "did not come up"
        raise LabError(f"{kernel}: the virtual machine {what}\n{_tail(console)}")
    return Outcome(int(status.split()[0]), output, seconds)


def _tail(console: bytes) -> str:
    return "\n".join(console.decode(errors="replace").splitlines()[-30:])
