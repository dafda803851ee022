"""Builds that the file system's word spares: what must be noticed all the same, and what need not even be imported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from hatch_bpf.kernels.matrix import LOCK_NAME
from hatch_bpf.reuse import remembered, unchanged
from hatch_bpf.support.store import CACHE_VARIABLE
from tests.common import kernel_btfs, needs
from tests.common.projects import SMALL_PROGRAM, make_small, wheel_files

PROJECT = """
[project]
name = "demo"
version = "1"
[tool.hatch.build.targets.wheel]
packages = ["src/demo"]
[tool.hatch.build.hooks.bpf]
archs = ["x86_64"]
btf-archive = "kernels"
kernels = ["debian/*/x86_64/*"]
"""


def touch(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    needs.tool("clang")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv("BTFHUB_ARCHIVE", raising=False)
    monkeypatch.setattr(unchanged, "SETTLED", 0)  # and no test has to wait until its files have settled
    folder = make_small(tmp_path / "project", PROJECT, package="src/demo")
    (folder / "src" / "demo" / "lib" / "deep").mkdir(parents=True)
    return folder


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each build that looked closer."""
    seen: list[str] = []
    build = remembered.build

    def noted(*args: object, **kwargs: object) -> object:
        seen.append("looked")
        return build(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(remembered, "build", noted)
    return seen


def wheel_of(root: Path) -> dict[str, bytes]:
    time.sleep(0.02)  # file systems' clocks tick a hundred times a second or more
    (path,) = WheelBuilder(str(root)).build(directory=str(root.parent / "out"), versions=["standard"])
    return wheel_files(Path(path))


def test_what_is_as_it_was_is_not_looked_at_closer(root: Path, looks: list[str]) -> None:
    first = wheel_of(root)
    assert len(looks) == 1
    assert [wheel_of(root), wheel_of(root)] == [first, first]
    assert len(looks) == 1


def test_it_says_again_what_the_build_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel_of(root)
    summary = capsys.readouterr()
    wheel_of(root)
    again = capsys.readouterr()
    told = [line for line in (summary.out + summary.err).splitlines() if " kernels: " in line]
    assert told
    assert told[0] in again.out + again.err
    assert "nothing has changed" in again.out + again.err


def kernel(root: Path) -> Path:
    return sorted(root.glob("kernels/*/*/*/*"))[-1]


def rewrite_unseen(path: Path, text: str) -> None:
    """As long as before, and as old."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "source": lambda root: touch(
        root / "src/demo/look.bpf.c", SMALL_PROGRAM.replace("return limit", "return limit + 1")
    ),
    "as long a source": lambda root: touch(root / "src/demo/look.bpf.c", SMALL_PROGRAM.replace("return l", "return!l")),
    "new source": lambda root: touch(
        root / "src/demo/lib/deep/more.bpf.c", SMALL_PROGRAM.replace('"limit.h"', '"../../limit.h"')
    ),
    "header": lambda root: touch(root / "src/demo/limit.h", "#define LIMIT 2\n"),
    "new header": lambda root: touch(
        root / "src/demo/bpf/bpf_helpers.h", "#define SEC(x) __attribute__((section(x)))\n"
    ),
    "option": lambda root: touch(root / "pyproject.toml", PROJECT + 'cflags = ["-DX"]\n'),
    "another place for options": lambda root: touch(
        root / "hatch.toml", PROJECT.replace("tool.hatch.build", "build").partition('version = "1"')[2]
    ),
    "fewer kernels": lambda root: kernel(root).unlink(),
    "more kernels": lambda root: shutil.copyfile(
        kernel_btfs._EXAMPLE / f"{[name for name in kernel_btfs.EXAMPLES if '/x86_64/' in name][2]}.btf.tar.xz",
        kernel(root).with_name(f"{[n for n in kernel_btfs.EXAMPLES if '/x86_64/' in n][2].split('/')[-1]}.btf.tar.xz"),
    ),
    "kernel written anew": lambda root: kernel(root).write_bytes(kernel(root).read_bytes()),
    "package": lambda root: touch(root / "src/__init__.py"),
    "time set back": lambda root: rewrite_unseen(root / "src/demo/limit.h", "#define LIMIT 3\n"),
    "cache": lambda root: shutil.rmtree(root.parent / "cache"),
    "what was kept": lambda root: shutil.rmtree(root.parent / "cache" / "results" / "builds"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(root: Path, looks: list[str], change: str) -> None:
    wheel_of(root)
    CHANGES[change](root)
    changed = wheel_of(root)
    assert len(looks) == 2
    # as a build makes it that has no memory
    shutil.rmtree(root.parent / "cache", ignore_errors=True)
    assert wheel_of(root) == changed


def test_a_lock_is_noticed(root: Path, looks: list[str]) -> None:
    wheel_of(root)
    touch(root / LOCK_NAME, "no lock")
    with pytest.raises(SystemExit):
        wheel_of(root)
    assert len(looks) == 2


def test_another_compiler_or_archive_is_noticed(root: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    wheel_of(root)
    wrapper = root.parent / "clang"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("clang")} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CLANG", str(wrapper))
    wheel_of(root)
    assert len(looks) == 2
    shutil.copytree(root / "kernels", root.parent / "other")
    monkeypatch.setenv("BTFHUB_ARCHIVE", str(root.parent / "other"))
    wheel_of(root)
    assert len(looks) == 3


def test_a_new_source_beside_the_folder_of_the_others_is_noticed(root: Path, looks: list[str]) -> None:
    (root / "src/demo/look.bpf.c").rename(root / "src/demo/lib/deep/look.bpf.c")
    (root / "src/demo/limit.h").rename(root / "src/demo/lib/deep/limit.h")
    (root / "src/demo/other/folder").mkdir(parents=True)
    wheel_of(root)
    touch(root / "src/demo/other/folder/more.bpf.c", SMALL_PROGRAM.replace("limit.h", "../../lib/deep/limit.h"))
    assert "demo/other/folder/more_skel.py" in wheel_of(root)
    assert len(looks) == 2


def test_what_another_hatch_bpf_made_does_not_serve(
    root: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel_of(root)
    monkeypatch.setattr(unchanged, "__file__", "/elsewhere/hatch_bpf/unchanged.py")
    wheel_of(root)
    assert len(looks) == 2


@pytest.mark.parametrize("programs", ["", 'programs = ["src/demo/lib/*.bpf.c"]\n'])
def test_what_an_editable_build_left_is_noticed(root: Path, looks: list[str], programs: str) -> None:
    if programs:
        (root / "src/demo/look.bpf.c").rename(root / "src/demo/lib/look.bpf.c")
        (root / "src/demo/limit.h").rename(root / "src/demo/lib/limit.h")
        touch(root / "pyproject.toml", PROJECT + programs)
    wheel_of(root)
    touch(root / "src" / "demo" / "_bpf" / "stray")
    with pytest.raises(SystemExit):
        wheel_of(root)
    assert len(looks) == 2


def test_what_is_written_during_a_build_is_not_taken_for_what_was_built(root: Path) -> None:
    began = time.time()
    time.sleep(0.02)
    place = root / "src" / "demo" / "limit.h"
    touch(place, "#define LIMIT 2\n")
    unchanged.keep("a build", "key", [place], since=began)
    os.utime(place, (0, 0))
    unchanged.keep("a build", "key", [place], since=began)
    assert not (root.parent / "cache").exists()
    time.sleep(0.02)
    unchanged.keep("a build", "key", [place], since=time.time())
    assert (root.parent / "cache" / "results" / "unchanged").is_dir()


def test_damage_of_what_was_kept_is_noticed(root: Path, looks: list[str]) -> None:
    first = wheel_of(root)
    for path in (root.parent / "cache").rglob("*"):
        if path.is_file():
            damaged = bytearray(path.read_bytes())
            damaged[len(damaged) // 2] ^= 1
            path.write_bytes(damaged)
    assert wheel_of(root) == first
    assert len(looks) == 2


def test_little_is_imported_when_nothing_has_changed(root: Path) -> None:
    wheel_of(root)
    code = (
        "import json, sys; from hatchling.builders.wheel import WheelBuilder\n"
        f"list(WheelBuilder({str(root)!r}).build(directory={str(root.parent / 'out')!r}, versions=['standard']))\n"
        "print(json.dumps(sorted(name for name in sys.modules if name.startswith('hatch_bpf'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True)
    imported = json.loads(done.stdout.splitlines()[-1])
    assert "hatch_bpf.reuse.unchanged" in imported
    assert not {"hatch_bpf.project.config", "hatch_bpf.kernels.matrix", "hatch_bpf.pipeline"} & set(imported)
