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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_bpf.kernels.formats.packages import image_of_deb
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.lab import cpio
from hatch_bpf.support.budget import Budget
from tests.lab import guest
from tests.lab.debian import Apt

HOME = "lab"
"""The folder of the virtual machine that the given files are in and the command starts in."""
MEMORY = "1G"
TIMEOUT = 240
"""Seconds for boot and command. A boot takes 5 to 15; other work on the machine makes it slower."""
BOOT_TIMEOUT = 90
"""Seconds for the boot alone."""
BOOTS = 3
"""How often a machine is started that does not come up, for emulation is not perfect. What goes wrong later, in the
command, is never tried again."""


@dataclass(frozen=True)
class Machine:
    """How qemu emulates an architecture."""

    command: tuple[str, ...]
    console: str


MACHINES = {
    # Without cmpxchg16b the kernel's allocator goes another way: with it, a third of 6.12's boots under qemu 7.2 die
    # of a corrupt free list.
    "x86_64": Machine(("qemu-system-x86_64", "-machine", "pc", "-cpu", "max,cx16=off"), "ttyS0"),
    "arm64": Machine(("qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a72"), "ttyAMA0"),
}

QEMU_OPTIONS = (
    *("-accel", "tcg", "-m", MEMORY, "-nodefaults", "-display", "none"),
    *("-no-reboot", "-serial", "stdio"),
)


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
        parameters: Sequence[str] = (),
        timeout: float = TIMEOUT,
    ) -> Outcome:
        """Boot the kernel and run a shell command among `files` (paths relative to the command's folder).

        `suite` chooses Python and libbpf. `hide_btf` makes /sys/kernel/btf empty; the kernel itself still has its
        BTF, unlike one that was built without.
        `parameters` are further ones of the kernel's command line.
        """
        begin, end = f"begin-{secrets.token_hex(8)}", f"end-{secrets.token_hex(8)}"
        added = {f"{HOME}/{name}": node for name, node in files.items()}
        for name, content in (("command", command), ("begin", begin), ("end", end)):
            added[f"{HOME}/{name}"] = cpio.file(content + "\n")
        machine = MACHINES[kernel.arch]
        # a kernel that stumbles panics, and then reboots at once, which -no-reboot makes an exit
        hidden = ("lab.hide-btf",) if hide_btf else ()
        line = " ".join((f"console={machine.console}", "quiet", "oops=panic", "panic=-1", *hidden, *parameters))
        with tempfile.TemporaryDirectory(prefix="hatch-bpf-lab-") as folder:
            image, initrd, console = (Path(folder, name) for name in ("vmlinuz", "initrd", "console"))
            image.write_bytes(self._image(kernel))
            initrd.write_bytes(self._root(suite, kernel.arch) + cpio.pack(added))
            argv: list[str | Path] = [
                *machine.command,
                *QEMU_OPTIONS,
                "-kernel",
                image,
                "-initrd",
                initrd,
                "-append",
                line,
            ]
            for _ in range(BOOTS):
                start = time.monotonic()
                _emulate(argv, console, begin=begin, timeout=timeout)
                seconds = time.monotonic() - start
                if begin.encode() in console.read_bytes():
                    break
            return _outcome(kernel, console.read_bytes(), begin=begin, end=end, seconds=seconds)

    def package(self, kernel: Kernel) -> Path:
        """The Debian package that has the kernel."""
        # one apt at a time, whatever number of threads boot
        with self._lock:
            return self._apt.fetch(kernel)

    def beside(self, kernel: Kernel) -> tuple[Path, ...]:
        """The Debian packages that have the kernel's modules and its configuration."""
        with self._lock:
            return self._apt.fetch_beside(kernel)

    def _image(self, kernel: Kernel) -> bytes:
        """The kernel's vmlinuz."""
        package = self.package(kernel)
        with package.open("rb") as file:
            return image_of_deb(file, Budget(str(package), package.stat().st_size)).data

    def _root(self, suite: str, arch: str) -> bytes:
        """The packed root file system."""
        with self._lock:
            if (suite, arch) not in self._roots:
                self._roots[suite, arch] = guest.root(guest.SUITES[suite], arch, self._apt)
            return self._roots[suite, arch]


def _emulate(argv: Sequence[str | Path], console: Path, *, begin: str, timeout: float) -> None:
    """Run qemu until it ends, or until it takes too long to come up or to be done; its console goes to a file."""
    with console.open("wb") as out:
        try:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        except FileNotFoundError:
            raise LabError(f"{argv[0]} is not installed; it is in qemu-system-x86 or qemu-system-arm") from None
    start = time.monotonic()
    try:
        while process.poll() is None:
            limit = timeout if begin.encode() in console.read_bytes() else BOOT_TIMEOUT
            if time.monotonic() - start > limit:
                return
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()


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
        what = f"did not get through its command in {seconds:.0f} seconds" if began else "did not come up"
        raise LabError(f"{kernel}: the virtual machine {what}; its console ends with\n{_tail(console)}")
    return Outcome(int(status.split()[0]), output, seconds)


def _tail(console: bytes) -> str:
    return "\n".join(console.decode(errors="replace").splitlines()[-30:])
