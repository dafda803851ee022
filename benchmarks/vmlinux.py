"""vmlinux.h. Input: a kernel's BTF, the running kernel's if it shows one, and a program. Output: rows.

`bpftool btf dump file KERNEL format c` is the reference: a whole process of C. Ours is measured as builds have it, a
function from the BTF's bytes to the text in a Python that is there already, and as the command line has it, with the
start of Python. Nothing is kept between two rounds, but where a row says so.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from hatch_bpf import arch
from hatch_bpf.compiler.bpftool import find_bpftool
from hatch_bpf.compiler.clang import command
from hatch_bpf.compiler.identifiers import names_in
from hatch_bpf.compiler.toolchain import Toolchain, find_toolchain, tool_environment
from hatch_bpf.compiler.vmlinux_h import KernelHeader
from hatch_bpf.errors import ToolchainError
from hatch_bpf.kernels import HOST_BTF
from hatch_bpf.kernels.archive import path_of, read_archived
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.support.store import CACHE_VARIABLE, Store

from .machine import EXAMPLE, REPOSITORY
from .measure import cpu_of, cpu_seconds, interleaved
from .table import Row, Skipped, ratio_at_most

PROGRAM = REPOSITORY / "tests" / "bpf" / "vmlinux" / "slowrun.bpf.c"
KERNEL = "debian/13/x86_64/6.18.15+deb13-cloud-amd64"
DUMP = "bpftool btf dump file KERNEL format c"


def rows(quick: bool) -> Iterator[Row | Skipped]:
    rounds = 2 if quick else 9
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield from _of_headers(rounds, find_bpftool(), Path(folder))
            yield from _of_programs(rounds, find_toolchain(), Path(folder))
        except ToolchainError as error:
            yield Skipped(what="vmlinux.h", reason=str(error))


def _btf() -> bytes:
    if HOST_BTF.is_file():
        return HOST_BTF.read_bytes()
    return read_archived(EXAMPLE / "kernels" / path_of(Kernel.parse(KERNEL)))


def _of_headers(rounds: int, bpftool: Path, folder: Path) -> Iterator[Row]:
    data, kernel, kept = _btf(), folder / "kernel.btf", Store(folder / "kept")
    kernel.write_bytes(data)
    names = _names(find_toolchain())
    dump = partial(cpu_seconds, [bpftool, "btf", "dump", "file", kernel, "format", "c"])

    def header(store: Store | None) -> KernelHeader:
        return KernelHeader(kernel, data, "kernel.btf", store)

    def emptied(*arguments: str) -> float:
        """The command's time, with an empty cache."""
        shutil.rmtree(folder / "cache", ignore_errors=True)
        return run(*arguments)

    def run(*arguments: str) -> float:
        environ = {**os.environ, CACHE_VARIABLE: str(folder / "cache")}
        return cpu_seconds([sys.executable, "-m", "hatch_bpf", "vmlinux-h", kernel, *arguments], env=environ)

    prune = ("--prune", str(PROGRAM))
    for what, ours, target in (
        ("vmlinux.h, whole", lambda: cpu_of(lambda: header(None).whole()), 3),
        ("vmlinux.h, pruned", lambda: cpu_of(lambda: header(None).pruned(names)), 0.3),
        ("vmlinux.h, whole, kept by an earlier build", lambda: cpu_of(lambda: header(kept).whole()), 0.3),
        ("vmlinux.h, pruned, kept by an earlier build", lambda: cpu_of(lambda: header(kept).pruned(names)), 0.3),
        ("hatch-bpf vmlinux-h KERNEL", lambda: emptied(), 3),
        ("hatch-bpf vmlinux-h KERNEL, again", lambda: run(), 3),
        ("hatch-bpf vmlinux-h KERNEL --prune", lambda: emptied(*prune), None),
        ("hatch-bpf vmlinux-h KERNEL --prune, again", lambda: run(*prune), None),
    ):
        mine, its = interleaved(ours, dump, rounds=rounds)
        yield Row(
            what=what,
            reference=DUMP,
            ours=mine,
            theirs=its,
            unit="s",
            target=None if target is None else ratio_at_most(target),
            note="" if what.startswith("hatch-bpf") else "a function in a running Python, from the BTF's bytes on",
        )


def _of_programs(rounds: int, toolchain: Toolchain, folder: Path) -> Iterator[Row]:
    header, times = KernelHeader(folder, _btf(), "kernel.btf"), []
    for text in (header.pruned(_names(toolchain)), header.whole()):
        include = Path(tempfile.mkdtemp(dir=folder))
        (include / "vmlinux.h").write_text(text)
        source = PurePosixPath(PROGRAM.relative_to(REPOSITORY))
        argv = command(source, root=REPOSITORY, arch=arch.X86_64, toolchain=toolchain, cflags=())
        argv += ["-isystem", str(include), "-o", str(include / "object")]
        times.append(partial(cpu_seconds, argv, cwd=REPOSITORY, env=tool_environment()))
    mine, its = interleaved(*times, rounds=rounds)
    yield Row(
        what=f"{PROGRAM.name} compiled with the pruned vmlinux.h",
        reference="clang, with the whole one",
        ours=mine,
        theirs=its,
        unit="s",
        target=ratio_at_most(0.5),
    )


def _names(toolchain: Toolchain) -> frozenset[str]:
    return names_in(PROGRAM, root=PROGRAM.parent, cflags=(), system_includes=toolchain.system_includes).names
