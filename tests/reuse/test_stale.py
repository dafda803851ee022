"""Nothing that went into a build may change without the build noticing: what the cache and what the tree keep."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hatch_bpf import pipeline
from hatch_bpf.setuptools_project import load_setuptools_project
from hatch_bpf.support.context import Context
from hatch_bpf.support.store import CACHE_VARIABLE
from tests.common import needs
from tests.common.projects import make_small

PROJECT = """
[project]
name = "demo"
version = "1"
[tool.setuptools]
packages = ["demo"]
[tool.hatch-bpf]
libbpf = "system"
archs = ["x86_64"]
btf-archive = "kernels"
kernels = ["debian/*/x86_64/*"]
cflags = ["-Iinclude/first", "-Iinclude/second", "@flags.rsp"]
"""
PROGRAM = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <second.h>
#if __has_include("extra.h")
#include "extra.h"
#else
#define EXTRA 0
#endif
char LICENSE[] SEC("license") = "GPL";
asm(".section .rodata,\\"a\\",@progbits\\n.incbin \\"table.bin\\"\\n.text");
SEC("tracepoint/sched/sched_switch")
int look(void *ctx)
{
	return SECOND + EXTRA + FLAG;
}
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    needs.tool("clang")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv("BTFHUB_ARCHIVE", raising=False)
    folder = make_small(tmp_path / "project", PROJECT, package="demo")
    (folder / "demo" / "look.bpf.c").write_text(PROGRAM)
    for name in ("first", "second"):
        (folder / "include" / name).mkdir(parents=True)
    (folder / "include" / "second" / "second.h").write_text("#define SECOND 1\n")
    (folder / "flags.rsp").write_text("-DFLAG=1 @more.rsp\n")
    (folder / "more.rsp").write_text("-DMORE=1\n")
    (folder / "table.bin").write_bytes(bytes(8))
    return folder


def built(root: Path) -> dict[str, bytes]:
    """What a build makes, but for the record, which names its inputs."""
    project = load_setuptools_project(root)
    assert project is not None
    artifacts = pipeline.build(project, Context())
    return {str(file.tree_path): file.data for file in artifacts.files if file.tree_path.name != "build.json"}


def write_to_tree(root: Path) -> None:
    """Leave what a build makes in the source tree, where the next build may take it from."""
    project = load_setuptools_project(root)
    assert project is not None
    for file in pipeline.build(project, Context()).files:
        path = root / file.tree_path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)


def add_a_header_that_is_found_first(root: Path) -> None:
    (root / "include" / "first" / "second.h").write_text("#define SECOND 2\n")


def add_a_header_that_has_include_asks_for(root: Path) -> None:
    (root / "demo" / "extra.h").write_text("#define EXTRA 2\n")


def change_a_file_of_options(root: Path) -> None:
    (root / "flags.rsp").write_text("-DFLAG=2 @more.rsp\n")


def change_a_file_of_options_that_another_names(root: Path) -> None:
    (root / "more.rsp").write_text("-DMORE=1 -UFLAG -DFLAG=3\n")


def change_what_inline_assembly_includes(root: Path) -> None:
    (root / "table.bin").write_bytes(bytes([1] * 8))


def lead_a_link_to_another_header(root: Path) -> None:
    """Of the same size, and with the same times."""
    header, other = root / "include" / "second" / "second.h", root / "include" / "other.h"
    other.write_text("#define SECOND 3\n")
    shutil.copystat(header, other)
    header.unlink()
    header.symlink_to(other)


@pytest.mark.parametrize("kept_in", ["cache", "tree"])
@pytest.mark.parametrize(
    "change",
    [
        add_a_header_that_is_found_first,
        add_a_header_that_has_include_asks_for,
        change_a_file_of_options,
        change_a_file_of_options_that_another_names,
        change_what_inline_assembly_includes,
        lead_a_link_to_another_header,
    ],
)
def test_no_build_is_stale(root: Path, tmp_path: Path, change: Callable[[Path], None], kept_in: str) -> None:
    before = built(root)
    if kept_in == "tree":
        write_to_tree(root)
        assert built(root) == before
    change(root)
    after = built(root)
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(root / "demo" / "_bpf", ignore_errors=True)
    assert after == built(root)
    assert after != before


@pytest.mark.parametrize("change", ["source", "header", "option", "kernel", "fewer kernels", "cache"])
def test_what_is_known_of_kernels_does_not_hide_a_change(root: Path, change: str, tmp_path: Path) -> None:
    before = built(root)
    kernels = sorted(root.glob("kernels/*/*/*/*"))
    if change == "source":
        (root / "demo" / "look.bpf.c").write_text(PROGRAM.replace("return SECOND", "return 7 + SECOND"))
    elif change == "header":
        (root / "include" / "second" / "second.h").write_text("#define SECOND 4\n")
    elif change == "option":
        (root / "pyproject.toml").write_text(PROJECT.replace('@flags.rsp"', '@flags.rsp", "-UFLAG", "-DFLAG=9"'))
    elif change == "kernel":
        times = os.stat(kernels[-1])
        kernels[-1].write_bytes(kernels[0].read_bytes())
        os.utime(kernels[-1], ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(Exception, match="its own name promises"):
            built(root)
        return
    elif change == "fewer kernels":
        kernels[-1].unlink()
    else:
        for path in (tmp_path / "cache").rglob("*"):
            if path.is_file():
                damaged = bytearray(path.read_bytes())
                damaged[len(damaged) // 2] ^= 1
                path.write_bytes(damaged)
    after = built(root)
    shutil.rmtree(tmp_path / "cache")
    assert after == built(root)
    assert (after == before) == (change == "cache")
