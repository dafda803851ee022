"""What tests need from the machine. Where it is missing, they skip with the reason; under CI=true they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hatch_bpf.support.own_libbpf import own_libraries
from tests.common.libbpf_load import LIBRARY, Libbpf

HOST_BTF = Path("/sys/kernel/btf/vmlinux")
CGROUP2 = next(
    (Path(p) for p in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if Path(p, "cgroup.procs").exists()), None
)

_OWN = "HATCH_BPF_TESTS_ARCHIVE"
"""Hands the archive on to pytest-xdist's workers, which inherit the environment."""
ARCHIVE = os.environ[_OWN] = os.environ.pop("BTFHUB_ARCHIVE", "") or os.environ.get(_OWN, "")
"""The archive for the tests; taken out of the environment, so that the builds that they run don't use it."""


def missing(reason: str) -> None:
    """Skip the running test; under CI=true, where everything must be there, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, but {reason}", pytrace=False)
    pytest.skip(reason)


def own_libbpf() -> None:
    """hatch-bpf's own libraries, which `python -m tools.libbpf` makes; tools/setup.sh runs it."""
    if not own_libraries():
        missing("hatch-bpf's own libbpf is not built: python -m tools.libbpf")


def tool(name: str) -> str:
    """Path of a program on PATH (clang, bpftool, qemu-system-x86_64)."""
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is not installed")
        raise AssertionError
    return path


def optional_tool(name: str) -> str:
    """Path of a program that is too big to require: its absence is a skip even in CI (chromium)."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def host_btf() -> Path:
    """The running kernel's BTF."""
    if not HOST_BTF.exists():
        missing(f"{HOST_BTF} is not there")
    return HOST_BTF


def root_bpf() -> None:
    """Root, and a kernel that lets it load BPF."""
    if os.geteuid() != 0:
        missing("loading BPF needs root")
    host_btf()


def program_kind(section: str) -> None:
    """A kernel that takes programs in this section; one that refuses even bpftool such a program is a skip, also in CI.

    It loads a program that does nothing, so the section must be complete (`fentry/vfs_fsync`, not `fentry`).
    """
    root_bpf()
    if _refusal("socket"):
        pytest.fail(f"bpftool can't load a socket filter: {_refusal('socket')}", pytrace=False)
    if refusal := _refusal(section):
        pytest.skip(f"this kernel refuses programs in SEC({section!r}), from bpftool too: {refusal}")


@cache
def _refusal(section: str) -> str:
    """Why bpftool can't load, and for an iterator pin, a program in this section; empty if it can."""
    source = 'char name_of_license[] __attribute__((section("license"))) = "GPL";\n'
    source += f'__attribute__((section("{section}"))) int program(void *ctx) {{ return 0; }}\n'
    what = "iter pin" if section == "iter/task" else "prog load"
    script = f'mount -t bpf bpf /sys/fs/bpf && bpftool {what} "$1" /sys/fs/bpf/program'
    with TemporaryDirectory() as folder:
        path = Path(folder, "program.bpf.o")
        compile_ = [tool("clang"), "-g", "-O2", "-target", "bpf", "-x", "c", "-c", "-", "-o", path]
        subprocess.run(compile_, input=source, text=True, check=True)
        load = [tool("unshare"), "--mount", "sh", "-c", script, "sh", path]
        done = subprocess.run(load, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode == 0:
        return ""
    said = done.stderr.splitlines()
    return next((line.partition("load failed: ")[2] for line in said if "load failed: " in line), " ".join(said))


def kprobes() -> None:
    """A kernel with kprobes; one without is a skip, also in CI."""
    if not Path("/sys/bus/event_source/devices/kprobe").exists():
        pytest.skip("this kernel is built without kprobes; those of the kernel lab have them")


def netkit() -> None:
    """A kernel with netkit devices; one without, where ip(8) makes none either, is a skip, also in CI."""
    command = [tool("unshare"), "--net", tool("ip"), "link", "add", "type", "netkit"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this kernel makes no netkit device, not by ip(8) either: {done.stderr.strip()}")


def libbpf() -> Libbpf:
    """libbpf 1.x, to load programs with."""
    try:
        return Libbpf()
    except OSError:
        missing(f"{LIBRARY} is not installed")
        raise


def cgroup2() -> Path:
    """Where cgroup v2 is mounted."""
    if CGROUP2 is None:
        missing("cgroup v2 is not mounted")
        raise AssertionError
    return CGROUP2


def archive() -> Path:
    """The BTF archive that BTFHUB_ARCHIVE names. It is optional everywhere, so its absence is a skip even in CI."""
    value = ARCHIVE
    if not value or not Path(value).is_dir():
        pytest.skip("BTFHUB_ARCHIVE names no BTF archive")
    return Path(value)


def private_mounts() -> None:
    """Root, and a kernel that lets it have a mount namespace of its own."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        missing("a private mount namespace needs root")
