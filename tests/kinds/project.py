"""The package `demo` with a program of every kind, built as a wheel through pip."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hatch_bpf.arch import build_machine
from tests.common import needs
from tests.common.projects import build_wheel, make_project
from tests.common.skeleton_package import BPF

EXERCISES = Path(__file__).with_name("exercises.py")
SOURCES = ("kinds", "struct_ops", "struct_ops_link", "usdt")
PROBE = Path(__file__).with_name("probe.c")


def is_own(arch: str) -> bool:
    """Whether an architecture is this machine's."""
    machine = build_machine()
    return machine is not None and machine.name == arch


def compile_probe(path: Path) -> Path:
    """The library with a statically defined probe, for this machine's architecture."""
    subprocess.run([needs.tool("clang"), "-O1", "-shared", "-fPIC", "-nostdlib", "-o", path, PROBE], check=True)
    return path


def make_wheel(folder: Path, *, arch: str) -> Path:
    """Build the wheel for an architecture. Its programs need the kernel's own BTF, if any: it embeds none."""
    # <bpf/usdt.bpf.h> wants the registers that the headers of the architecture itself declare
    names = [name for name in SOURCES if name != "usdt" or is_own(arch)]
    sources = {f"{name}.bpf.c": (BPF / f"{name}.bpf.c").read_text() for name in names}
    options = f'archs = ["{arch}"]\n'
    return build_wheel(make_project(folder / "project", options=options, sources=sources), folder / "wheel")
