"""`bpftool gen min_core_btf` as a minimizer: the reference for our own, selectable in the configuration.

Input: objects and a kernel's BTF. Output: the minimized BTF that bpftool writes, or `MinimizeError`, `ToolchainError`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.writer import as_libbpf_writes
from hatch_bpf.compiler.toolchain import tool_environment
from hatch_bpf.errors import MinimizeError, ToolchainError
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.support.scratch import Scratch

_SYSTEM_FOLDERS = ("/usr/sbin", "/sbin", "/usr/local/sbin")
"""Folders where distributions put bpftool, which an ordinary user's PATH lacks."""


def minimize_by_bpftool(objects: Sequence[ObjectModel], kernel: Btf, environ: Mapping[str, str] = os.environ) -> bytes:
    """Run bpftool on all the objects together. Raises `MinimizeError` with bpftool's own message."""
    bpftool = find_bpftool(environ)
    with Scratch() as folder:
        source, target = Path(folder, "kernel.btf"), Path(folder, "minimized.btf")
        source.write_bytes(kernel.data)
        paths = []
        for number, item in enumerate(objects):
            paths.append(Path(folder, f"{number}.bpf.o"))
            paths[-1].write_bytes(item.elf)
        done = subprocess.run(
            [bpftool, "gen", "min_core_btf", source, target, *paths],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=tool_environment(environ),
        )
        if done.returncode or not target.exists():
            names, words = ", ".join(item.path for item in objects), done.stderr.strip() or done.stdout.strip()
            raise MinimizeError(
                f"{kernel.source}: bpftool gen min_core_btf fails for {names}: {words}. "
                'The option minimizer = "builtin" does without bpftool'
            )
        return as_libbpf_writes(Btf(target.read_bytes(), source="minimized BTF"))


def find_bpftool(environ: Mapping[str, str] = os.environ) -> Path:
    """bpftool on PATH or in the system's sbin folders. Raises `ToolchainError`."""
    search = os.pathsep.join([environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS])
    found = shutil.which("bpftool", path=search)
    if found is None:
        raise ToolchainError(
            'bpftool is not installed, and minimizer = "bpftool" asks for it. Debian: apt install bpftool; '
            'Fedora: dnf install bpftool; Alpine: apk add bpftool; or take minimizer = "builtin"'
        )
    return Path(found)
