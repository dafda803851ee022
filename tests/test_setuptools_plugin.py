"""setuptools' side through its front doors, against hatchling's: the same options, the same files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.common import needs
from tests.common.projects import (
    SETUPTOOLS_PYPROJECT,
    build_wheel,
    make_project,
    pip_wheel,
    wheel_files,
)

OPTIONS = 'archs = ["x86_64", "arm64"]\nbtf-archive = "kernels"\nkernels = ["debian/12/*/6.1.*"]\n'


def setuptools(project: Path, code: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run setuptools' PEP 517 functions as a build front end does."""
    return subprocess.run(
        [sys.executable, "-c", f"import setuptools.build_meta as b; {code}"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )


def test_a_value_instead_of_the_table(tmp_path: Path) -> None:
    pyproject = SETUPTOOLS_PYPROJECT.replace("[tool.hatch-bpf]\n", "[tool]\nhatch-bpf = 3\n")
    project = make_project(tmp_path / "p", options="", pyproject=pyproject)
    done = pip_wheel(project, tmp_path / "out")
    assert done.returncode == 1
    assert "hatch-bpf: tool.hatch-bpf must be a table" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_project_without_the_table_is_left_alone(tmp_path: Path) -> None:
    pyproject = SETUPTOOLS_PYPROJECT.replace("[tool.hatch-bpf]\n", "").replace(', "hatch-bpf"', ', "hatch-bpf-x"')
    assert "hatch-bpf-x" in pyproject
    project = make_project(tmp_path / "p", options="", sources={"prog.bpf.c": "not C"}, pyproject=pyproject)
    assert not [name for name in wheel_files(build_wheel(project, tmp_path / "out")) if "_bpf" in name]


@pytest.mark.parametrize("requirement", ["hatch-bpf", "Hatch_BPF[zig] >= 0.1", "hatch.bpf==0.1"])
@pytest.mark.parametrize("table", ["", "[tool.hatch.build.hooks.bpf]\n", "[tool.hatch_bpf]\n"])
def test_a_project_that_requires_hatch_bpf_and_has_no_table_is_told(
    tmp_path: Path, table: str, requirement: str
) -> None:
    """Its wheel would lack the programs, and nobody would be told."""
    pyproject = SETUPTOOLS_PYPROJECT.replace("[tool.hatch-bpf]\n", table).replace('"hatch-bpf"', f'"{requirement}"')
    project = make_project(tmp_path / "p", options="", pyproject=pyproject)
    done = setuptools(project, f"b.build_wheel({str(tmp_path)!r})")
    assert done.returncode == 1
    assert "error: hatch-bpf: tool.hatch-bpf is missing: the project requires hatch-bpf" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("layout", ["src", "flat"])
def test_both_layouts(tmp_path: Path, layout: str) -> None:
    needs.tool("clang")
    project = make_project(tmp_path / "p", pyproject=SETUPTOOLS_PYPROJECT)
    if layout == "flat":
        (project / "src" / "demo").rename(project / "demo")
        (project / "src").rmdir()
    files = wheel_files(build_wheel(project, tmp_path / "out"))
    assert {"demo/prog_skel.py", "demo/_bpf/x86_64/prog.bpf.o", "demo/_bpf/runtime/__init__.py"} <= set(files)
