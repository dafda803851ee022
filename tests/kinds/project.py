"""The package `demo` with a program of every kind, built as a wheel through pip."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests import needs
from tests.projects import build_wheel, make_project
from tests.skeleton_package import BPF

EXERCISES = Path(__file__).with_name("exercises.py")
SOURCES = ("kinds", "struct_ops", "struct_ops_link", "usdt")
PROBE = Path(__file__).with_name("probe.c")


def compile_probe(path: Path) -> Path:
    """The library with a statically defined probe, for this machine's architecture."""
    subprocess.run([needs.tool("clang"), "-O1", "-shared", "-fPIC", "-nostdlib", "-o", path, PROBE], check=True)
    return path


def make_wheel(folder: Path, *, archs: Sequence[str]) -> Path:
    """Build the wheel. Its programs need the kernel's own BTF, if any: it embeds none."""
    options = f"archs = [{', '.join(map(repr, archs))}]\n"
    sources = {f"{name}.bpf.c": (BPF / f"{name}.bpf.c").read_text() for name in SOURCES}
    return build_wheel(make_project(folder / "project", options=options, sources=sources), folder / "wheel")
