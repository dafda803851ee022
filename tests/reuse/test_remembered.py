"""Builds that need not be done again, and all that must make one be done again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hatch_bpf.errors import CompileError
from hatch_bpf.reuse.remembered import build
from hatch_bpf.setuptools_plugin import load_project
from hatch_bpf.support.store import CACHE_VARIABLE
from tests.common import needs
from tests.common.projects import LEFT_OUT, SMALL_PROGRAM, count_resolutions, make_small

AGAIN = "nothing has changed"
PROJECT = """
[project]
name = "demo"
version = "1"
[tool.setuptools]
packages = ["demo"]
[tool.hatch-bpf]
archs = ["x86_64"]
btf-archive = "kernels"
kernels = ["debian/*/x86_64/*"]
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    needs.tool("clang")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv("BTFHUB_ARCHIVE", raising=False)
    return make_small(tmp_path / "project", PROJECT, package="demo")


def made(root: Path) -> tuple[dict[str, bytes], bool]:
    """What a build makes, and whether it was remembered."""
    told: list[str] = []
    project = load_project(root)
    assert project is not None
    artifacts = build(project, notify=told.append)
    return {str(file.wheel_path): file.data for file in artifacts.files}, any(line.startswith(AGAIN) for line in told)


def test_kernels_are_looked_for_once_and_what_is_left_out_is_told_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_for, told = count_resolutions(monkeypatch), list[str]()
    project = load_project(root)
    assert project is not None
    assert build(project, notify=told.append).told == tuple(told)
    assert (len(looked_for), told.count(f"warning: {LEFT_OUT}")) == (1, 1)


def test_a_build_of_the_same_is_not_done_again(root: Path) -> None:
    first, again = made(root)
    assert not again
    assert made(root) == (first, True)
    assert any(name.endswith("look_skel.py") for name in first)


@pytest.mark.parametrize(
    "change",
    ["source", "header", "new header", "option", "kernel", "fewer kernels", "compiler", "cache"],
)
def test_a_change_of_what_went_in_is_noticed(root: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made(root)
    kernel = sorted(root.glob("kernels/*/*/*/*"))[-1]
    if change == "source":
        (root / "demo" / "look.bpf.c").write_text(SMALL_PROGRAM.replace("return limit", "return limit + 1"))
    elif change == "header":
        (root / "demo" / "limit.h").write_text("#define LIMIT 2\n")
    elif change == "new header":
        (root / "demo" / "bpf").mkdir()
        (root / "demo" / "bpf" / "bpf_helpers.h").write_text("#define SEC(x) __attribute__((section(x), used))\n")
    elif change == "option":
        (root / "pyproject.toml").write_text(PROJECT + 'cflags = ["-DX"]\n')
    elif change == "kernel":
        kernel.write_bytes(sorted(root.glob("kernels/*/*/*/*"))[0].read_bytes())
    elif change == "fewer kernels":
        kernel.unlink()
    elif change == "compiler":
        wrapper = root / "clang"
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("clang")} "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setenv("CLANG", str(wrapper))
    else:
        shutil.rmtree(root.parent / "cache")
    if change == "kernel":
        with pytest.raises(Exception, match="its own name promises"):
            made(root)
    else:
        assert not made(root)[1]


def test_damage_of_the_cache_is_noticed(root: Path) -> None:
    first, _ = made(root)
    for path in (root.parent / "cache").rglob("*"):
        if path.is_file():
            damaged = bytearray(path.read_bytes())
            damaged[len(damaged) // 2] ^= 1
            path.write_bytes(damaged)
    assert made(root) == (first, False)


def test_what_fails_is_not_remembered(root: Path) -> None:
    (root / "demo" / "limit.h").write_text("#error no limit\n")
    for _ in range(2):
        with pytest.raises(CompileError, match="no limit"):
            made(root)


def test_what_is_in_the_tree_is_looked_at_itself(root: Path) -> None:
    first, _ = made(root)
    for name, data in first.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    assert made(root) == (first, False)
