"""A large object. Input: programs that are generated here, and kernels of the archive. Output: rows.

It has as many programs and CO-RE reads as the largest that are known: 250 programs of 150 reads each. The reads are of
fields that kernels have. Times are CPU time of the whole command, so that a machine with other work to do tells no lie.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path, PurePosixPath

from hatch_bpf import arch
from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler.bpftool import find_bpftool
from hatch_bpf.compiler.clang import command
from hatch_bpf.compiler.toolchain import find_toolchain, tool_environment
from hatch_bpf.errors import ToolchainError
from hatch_bpf.kernels.matrix import KernelSource, Pattern, resolve

from .machine import ARCHIVE
from .measure import cpu_seconds, interleaved, peak_bytes
from .table import Row, Skipped, ours_at_most, ratio_at_most

PROGRAMS, READS = 250, 150
KERNELS = 10
CLI = (sys.executable, "-m", "hatch_bpf")


def rows(quick: bool) -> Iterator[Row | Skipped]:
    rounds = 1 if quick else 3
    kernels = list(islice(resolve([Pattern("debian/*/x86_64/*")], archs=("x86_64",), archive=ARCHIVE).sources, KERNELS))
    try:
        bpftool = find_bpftool()
        with tempfile.TemporaryDirectory(prefix="hatch-bpf-bench-") as scratch:
            yield from _rows(rounds, kernels, bpftool, Path(scratch))
    except ToolchainError as error:
        yield Skipped(what="a large object", reason=str(error))


def _rows(rounds: int, kernels: Sequence[KernelSource], bpftool: Path, folder: Path) -> Iterator[Row]:
    btf = folder / "kernel.btf"
    btf.write_bytes(kernels[0].read())
    fields = _fields(kernels)
    large, small = (compiled(folder, count, fields) for count in (PROGRAMS, PROGRAMS // 10))
    archive = folder / "archive"
    for kernel in kernels:
        to = archive / kernel.path.relative_to(ARCHIVE)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(kernel.path, to)
    what, tenth = f"{PROGRAMS} programs of {READS} CO-RE reads", "a tenth of the programs"

    def inspect(path: Path) -> list[str | Path]:
        return [*CLI, "inspect", path]

    def check(path: Path) -> list[str | Path]:
        return [*CLI, "check", path, "--kernels", archive]

    ours, theirs = interleaved(lambda: cpu_seconds(inspect(large)), lambda: cpu_seconds(inspect(small)), rounds=rounds)
    yield Row(what=f"inspect {what}", reference=tenth, ours=ours, theirs=theirs, unit="s", target=ours_at_most(2))
    ours, theirs = interleaved(lambda: cpu_seconds(check(large)), lambda: cpu_seconds(check(small)), rounds=rounds)
    what_checked = f"check them on {len(kernels)} kernels"
    yield Row(what=what_checked, reference=tenth, ours=ours, theirs=theirs, unit="s", target=ours_at_most(10))
    ours, theirs = peak_bytes(check(large)), peak_bytes(check(small))
    yield Row(
        what=f"{what_checked}: peak memory", reference=tenth, ours=ours, theirs=theirs, unit="bytes",
        target=ours_at_most(300e6),
    )  # fmt: skip
    ours, theirs = interleaved(
        lambda: cpu_seconds([*CLI, "min-core-btf", btf, folder / "ours.btf", large]),
        lambda: cpu_seconds([bpftool, "gen", "min_core_btf", btf, folder / "theirs.btf", large]),
        rounds=rounds,
    )
    yield Row(
        what="minimize a kernel's BTF for them", reference="bpftool gen min_core_btf", ours=ours, theirs=theirs,
        unit="s", target=ratio_at_most(3), note="with the start of Python",
    )  # fmt: skip


_TYPES = {1: "char", 2: "short", 4: "int", 8: "long"}


def _fields(kernels: Sequence[KernelSource]) -> dict[str, str]:
    """Names and types of members that struct task_struct has on all of the kernels."""
    of_each = [_members(Btf(kernel.read(), source=kernel.origin)) for kernel in kernels]
    first, *others = of_each
    return {name: kind for name, kind in first.items() if all(other.get(name) == kind for other in others)}


def _members(kernel: Btf) -> dict[str, str]:
    (type_id, *_) = kernel.find("task_struct", t.Kind.STRUCT)
    found = kernel[type_id]
    assert isinstance(found, t.Struct)
    types = {}
    for member in found.members:
        _, of_type = kernel.resolve(member.type_id)
        if member.name and not member.bits and isinstance(of_type, t.Ptr):
            types[member.name] = "void *"
        elif member.name and not member.bits and isinstance(of_type, t.Int):
            types[member.name] = _TYPES[of_type.size]
    return types


def compiled(folder: Path, programs: int, fields: Mapping[str, str]) -> Path:
    """An object whose programs each read the fields over and over."""
    declared = (f"{kind} {name};" for name, kind in fields.items())
    lines = [
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>",
        'char LICENSE[] SEC("license") = "GPL";\nvolatile long sink;',
        f"struct task_struct {{ {' '.join(declared)} }} __attribute__((preserve_access_index));",
    ]
    for number in range(programs):
        lines.append(f'SEC("raw_tp/sched_switch") int p{number}(void *ctx) {{')
        lines.append("  struct task_struct *task = (void *)bpf_get_current_task();\n  long value = 0;")
        for name in islice(cycle(fields), READS):
            lines.append(f"  bpf_probe_read_kernel(&value, sizeof(task->{name}), &task->{name}); sink += value;")
        lines.append("  return 0;\n}")
    source, path = folder / f"p{programs}.bpf.c", folder / f"p{programs}.bpf.o"
    source.write_text("\n".join(lines), encoding="utf-8")
    words = command(
        PurePosixPath(source.name), root=folder, arch=arch.ARCHES["x86_64"], toolchain=find_toolchain(), cflags=()
    )
    subprocess.run([*words, "-o", path], check=True, env=tool_environment(), cwd=folder)
    return path
