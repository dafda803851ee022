"""The package `seeds`: the programs of tests/bpf/seeds and some of examples/, built as one wheel through pip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.common.projects import KERNELS, REPOSITORY, build_wheel, make_project

FOLDERS = (
    Path(__file__).parents[1] / "bpf" / "seeds",
    *(REPOSITORY / "examples" / name / "src" / name for name in ("flat", "opensnoop", "runqslower", "tcprtt_fentry")),
)
"""Where their sources are."""
EXERCISES = Path(__file__).with_name("exercises.py")
EVENTS = {
    "ring_events": "flow_event",
    "perf_events": "flow_event",
    "close_events": "close_event",
    "open_events": "open_event",
    "wait_events": "wait_event",
    "bits_events": "bits_event",
}
OPTIONS = """\
archs = ["x86_64", "arm64"]
btf-archive = "{archive}"
kernels = [{kernels}]
events = {{ {events} }}
on-unportable = "warn"
"""
"""Warned of is thread.bpf.c on arm64, which has no such registers."""


def make_wheel(folder: Path, *, kernels: tuple[str, ...]) -> Path:
    """Build the wheel with the kernels of the example project that match, and `host` for this machine's.

    Where CLANG names a compiler, it is used: from clang 15 on, types.bpf.c matches types, too.
    """
    options = OPTIONS.format(
        archive=KERNELS,
        kernels=", ".join(f'"{pattern}"' for pattern in kernels),
        events=", ".join(f'{name} = "{struct}"' for name, struct in EVENTS.items()),
    )
    sources = {path.name: path.read_text() for folder in FOLDERS for path in sorted(folder.glob("*.[ch]"))}
    project = make_project(folder / "project", options=options, sources=sources)
    (project / "src" / "demo").rename(project / "src" / "seeds")
    pyproject = project / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('name = "demo"', 'name = "seeds"'))
    env = {name: os.environ[name] for name in ("CLANG",) if name in os.environ}
    return build_wheel(project, folder / "wheel", env=env)


def objects(site: Path, arch: str) -> dict[str, Path]:
    """The installed objects for an architecture, by the names of their sources."""
    found = sorted((site / "seeds" / "_bpf" / arch).glob("*.bpf.o"))
    return {path.name.removesuffix(".bpf.o"): path for path in found}


def install(wheel: Path, folder: Path) -> Path:
    """The wheel in a folder to put on PYTHONPATH."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", os.fspath(folder), os.fspath(wheel)], check=True)
    return folder
