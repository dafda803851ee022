"""pipeline.py: what the packages of one project share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hatch_bpf import pipeline
from hatch_bpf.setuptools_project import load_setuptools_project
from hatch_bpf.support.context import Context
from hatch_bpf.support.store import CACHE_VARIABLE
from tests.common import needs
from tests.common.projects import LEFT_OUT, PROGRAM, count_resolutions, make_small

PROJECT = """
[project]
name = "demo"
version = "1"
[tool.setuptools]
packages = ["demo", "other"]
[tool.hatch-bpf]
libbpf = "system"
archs = ["x86_64"]
btf-archive = "kernels"
kernels = ["debian/*/x86_64/*"]
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two packages, whose programs differ."""
    needs.tool("clang")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    folder = make_small(tmp_path / "project", PROJECT, package="demo")
    (folder / "other").mkdir()
    (folder / "other" / "__init__.py").write_text("")
    (folder / "other" / "prog.bpf.c").write_text(PROGRAM)
    return folder


def built(root: Path) -> tuple[dict[Path, bytes], list[str]]:
    """What a build writes into the source tree, and what it tells."""
    told: list[str] = []
    project = load_setuptools_project(root)
    assert project is not None
    artifacts = pipeline.build(project, Context(told.append))
    return {root / file.tree_path: file.data for file in artifacts.files}, told


def test_kernels_are_found_and_warned_of_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for = count_resolutions(monkeypatch)
    files, told = built(root)
    assert (len(looked_for), told.count(f"warning: {LEFT_OUT}")) == (1, 1)
    assert files[root / "demo/_bpf/kernels.btfs"] != files[root / "other/_bpf/kernels.btfs"]


def test_a_package_that_is_built_already_gets_what_the_other_gets(root: Path) -> None:
    for path, data in built(root)[0].items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (root / "other" / "prog.bpf.c").write_text(PROGRAM.replace("!wanted ||", "wanted &&"))
    found, told = built(root)
    assert [line.split(",")[0] for line in told if line.startswith(("taking", "building anew"))] == [
        "taking the objects in demo/_bpf",
        "building anew what is in other/_bpf: other/prog.bpf.c has changed",
    ]
    for package in ("demo", "other"):
        shutil.rmtree(root / package / "_bpf")
    assert found == built(root)[0]
    # of what is built already no archive is needed
    for path, data in found.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    shutil.rmtree(root / "kernels")
    assert built(root)[0] == found


def test_a_kernel_counts_once_in_the_report(root: Path) -> None:
    """Also where the packages' programs have one name, and one verdict for one reason."""
    (root / "demo" / "look.bpf.c").rename(root / "demo" / "prog.bpf.c")
    shutil.copy(root / "demo" / "prog.bpf.c", root / "other")
    shutil.copy(root / "demo" / "limit.h", root / "other")
    _, told = built(root)
    kernels = len(list(root.glob("kernels/*/*/*/*")))
    assert f"2 programs on {kernels} kernels: loads everywhere" in told
