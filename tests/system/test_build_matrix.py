"""How a package can be built, as docs/publishing.md says: build system x kind of build x source of the compiler."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from hatch_bpf.cli.main import main
from tests.common import needs
from tests.common.projects import PYPROJECT, REPOSITORY, SETUPTOOLS_PYPROJECT, make_project, wheel_files

BACKENDS = {"hatchling": ("hatchling.build", PYPROJECT), "setuptools": ("setuptools.build_meta", SETUPTOOLS_PYPROJECT)}
KINDS = ("wheel", "sdist, then wheel", "editable")
COMPILERS = ("clang", "zig", "none")


def call(python: Path | str, backend: str, project: Path, function: str, out: Path, path: str) -> str:
    """Call a function of a build backend as a front end does; returns what it said."""
    done = subprocess.run(
        [python, "-c", f"import {backend} as b; b.{function}({str(out)!r})"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={"PATH": path, "HOME": str(out)},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize(("backend", "kind", "compiler"), list(product(BACKENDS, KINDS, COMPILERS)))
def test_every_way_to_build(
    tmp_path: Path, request: pytest.FixtureRequest, backend: str, kind: str, compiler: str
) -> None:
    needs.tool("clang")
    module, pyproject = BACKENDS[backend]
    project = make_project(tmp_path / "p", pyproject=pyproject)
    python = request.getfixturevalue("zig_python") if compiler == "zig" else sys.executable
    path = os.environ["PATH"] if compiler == "clang" else "/nonexistent"
    out = tmp_path / "out"
    out.mkdir()
    if compiler == "none" and kind != "sdist, then wheel":
        assert main(["build", str(project)]) == 0  # as a project does that commits what is built
    if kind == "sdist, then wheel":
        # made where there is a compiler; what it was made with counts only where the sdist is built
        made_with = os.environ["PATH"] if compiler == "none" else path
        call(python, module, project, "build_sdist", tmp_path, made_with)
        subprocess.run(["tar", "xf", tmp_path / "demo-1.tar.gz", "-C", tmp_path], check=True)
        project, path = tmp_path / "demo-1", "/nonexistent"
    said = call(python, module, project, "build_editable" if kind == "editable" else "build_wheel", out, path)
    reused = compiler == "none" or kind == "sdist, then wheel"
    assert ("taking the objects in src/demo/_bpf, which fit the sources" in said) == reused
    (wheel,) = out.glob("*.whl")
    if kind == "editable":
        assert (project / "src" / "demo" / "_bpf" / "x86_64" / "prog.bpf.o").exists()
    else:
        assert "demo/_bpf/x86_64/prog.bpf.o" in wheel_files(wheel)
        assert wheel.name == "demo-1-py3-none-any.whl"


def test_the_table_on_the_page_is_this_matrix() -> None:
    page = (REPOSITORY / "docs" / "publishing.md").read_text()
    rows = re.findall(r"^\| (hatchling|setuptools), ([a-z, ]+) \| ([a-z ]+) \| ([a-z ]+) \| ([a-z ]+) \|$", page, re.M)
    assert [(row[0], row[1]) for row in rows] == list(product(BACKENDS, KINDS))
