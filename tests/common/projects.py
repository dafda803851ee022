"""Small projects with BPF programs, and pip, by which users build them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_bpf.cli.main import main
from hatch_bpf.kernels import matrix
from hatch_bpf.kernels.archive import list_kernels
from hatch_bpf.kernels.matrix import Matrix
from hatch_bpf.project import declared_kernels
from hatch_bpf.support.store import CACHE_VARIABLE

if TYPE_CHECKING:  # the kernel lab and the soak run without it
    import pytest

PROGRAM = """\
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

struct event {
	__u32 pid;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct event);
} events SEC(".maps");

const volatile __u32 wanted = 0;

SEC("raw_tp/sched_switch")
int on_switch(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[1];
	struct event event = {.pid = BPF_CORE_READ(task, pid)};
	__u32 key = 0;

	if (!wanted || wanted == event.pid)
		bpf_map_update_elem(&events, &key, &event, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""
"""A program that needs one CO-RE relocation."""

SMALL_PROGRAM = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "limit.h"
int limit = LIMIT;
SEC("socket") int look(void *ctx) { return limit; }
char LICENSE[] SEC("license") = "GPL";
"""
"""One that needs none, and a header."""

REPOSITORY = Path(__file__).resolve().parents[2]
KERNELS = REPOSITORY / "example_project" / "kernels"
"""The BTF archive that is part of the repository."""

SYSTEM_LIBBPF = 'libbpf = "system"\n'
"""An option of most projects here: they build sooner, and also where hatch-bpf's own libbpf was not made."""

PYPROJECT = """\
[build-system]
requires = ["hatchling", "hatch-bpf"]
build-backend = "hatchling.build"

[project]
name = "demo"
version = "1"

[tool.hatch.build.hooks.bpf]
{options}
"""


SETUPTOOLS_PYPROJECT = """\
[build-system]
requires = ["setuptools>=70.1", "hatch-bpf"]
build-backend = "setuptools.build_meta"

[project]
name = "demo"
version = "1"

[tool.hatch-bpf]
{options}
"""


def make_project(
    folder: Path,
    *,
    options: str = 'archs = ["x86_64"]',
    libbpf: str = SYSTEM_LIBBPF,
    sources: Mapping[str, str] | None = None,
    pyproject: str = PYPROJECT,
) -> Path:
    """Write a project with the package `demo`; `sources` are program sources by path, relative to it.

    Its wheel needs a libbpf on the host, unless `libbpf` is empty: then it is built as users build theirs.
    """
    package = folder / "src" / "demo"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (folder / "pyproject.toml").write_text(pyproject.format(options=libbpf + options))
    for name, text in ({"prog.bpf.c": PROGRAM} if sources is None else sources).items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def build_scaffold(folder: Path, backend: str) -> None:
    """In the current folder, what `hatch-bpf init` writes, built for no kernel in particular."""
    assert main(["init", "exec-watch", str(folder), "--backend", backend]) == 0
    pyproject = folder / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('kernels = ["host"]\n', SYSTEM_LIBBPF))
    assert main(["build"]) == 0


def make_small(folder: Path, table: str, *, package: str) -> Path:
    """A project that builds quickly: one program, which includes `limit.h`, and two kernels under `kernels`."""
    files = {
        "pyproject.toml": table,
        f"{package}/__init__.py": "",
        f"{package}/look.bpf.c": SMALL_PROGRAM,
        f"{package}/limit.h": "#define LIMIT 1\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for entry in [entry for entry in list_kernels(KERNELS) if entry.kernel.arch == "x86_64"][:2]:
        copy = folder / "kernels" / entry.path.relative_to(KERNELS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(entry.path, copy)
        os.utime(copy, (0, 0))
    return folder


def bare_environment(**variables: str) -> dict[str, str]:
    """The variables that a process needs to find tools and hatch-bpf, and to use the tests' cache."""
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), CACHE_VARIABLE: os.environ[CACHE_VARIABLE]}
    return {**own, **variables}


def pip_wheel(
    project: Path,
    out: Path,
    *,
    env: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    verbose: bool = False,
) -> subprocess.CompletedProcess[str]:
    """`pip wheel`, with this environment's hatch-bpf as the build environment. The output holds both streams.

    `prefix` is a command to run pip under; `verbose` shows what the build says when nothing is wrong.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "wheel", *["-v"] * verbose]
    arguments = ["--no-build-isolation", "--no-deps", "--wheel-dir", str(out), str(project)]
    environment = {name: value for name, value in os.environ.items() if name != "CLANG"}
    return subprocess.run(
        [*prefix, *command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**environment, **(env or {})},
    )


def build_wheel(project: Path, out: Path, *, env: Mapping[str, str] | None = None) -> Path:
    """Build a project's wheel. The build must succeed."""
    done = pip_wheel(project, out, env=env)
    assert done.returncode == 0, done.stdout
    (wheel,) = out.glob("*.whl")
    return wheel


def wheel_files(wheel: Path) -> dict[str, bytes]:
    """Contents of a wheel by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def tree_of(folder: Path) -> dict[str, bytes]:
    """Contents of a folder by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


LEFT_OUT = "one is left out"


def count_resolutions(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A list that grows by one entry whenever a project's kernels are looked for, which then gives a warning too."""
    looked_for: list[object] = []
    resolve = matrix.resolve

    def count(*args: Any, **kwargs: Any) -> Matrix:
        looked_for.append(args)
        return replace(resolve(*args, **kwargs), warnings=(LEFT_OUT,))

    monkeypatch.setattr(declared_kernels, "resolve", count)
    return looked_for
