"""What this machine can measure, and with what. Input: this machine. Output: what it lacks; packages and folders."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent
REPOSITORY = BENCHMARKS.parent
EXAMPLE = REPOSITORY / "example_project"
ARCHIVE = Path(os.environ.get("BTFHUB_ARCHIVE") or EXAMPLE / "kernels")
"""The kernels to measure with."""


def lacks_bpf() -> str:
    """Why BPF can't be loaded here, or an empty string."""
    if os.geteuid() != 0:
        return "loading BPF needs root"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "the kernel has no BTF"
    return ""


def lacks_tools(*names: str) -> str:
    """Which of these programs are not installed, or an empty string."""
    missing = [name for name in names if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def installed(project: Path, folder: Path) -> Path:
    """A folder to import a project's package from, built and byte-compiled as pip would install it."""
    copy = folder / project.name
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("_bpf", "*_skel.py", "__pycache__"))
    command = [sys.executable, "-m", "hatch_bpf", "build"]
    subprocess.run(command, cwd=copy, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, check=True, capture_output=True)
    source = copy / "src"
    compileall.compile_dir(source, quiet=1)
    return source


def python_environment(*folders: Path) -> dict[str, str]:
    """The environment for a Python that imports from folders."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}


@contextmanager
def cgroup() -> Iterator[Path]:
    """A cgroup of our own. Raises `FileNotFoundError` where cgroup v2 is not mounted."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="ascii").splitlines()]
    folder = next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)
    if folder is None:
        raise FileNotFoundError("cgroup v2 is not mounted")
    own = folder / f"hatch-bpf-benchmark-{os.getpid()}"
    own.mkdir()
    try:
        yield own
    finally:
        own.rmdir()
