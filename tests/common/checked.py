"""Programs of tests/bpf/portability and kernels, and the verdicts of the one on the other."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path, PurePosixPath

from hatch_bpf.arch import X86_64
from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler.clang import compile_source
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.core_relo.minimize import minimize
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.portability.object_check import Checker
from hatch_bpf.portability.report import common, remedy_for
from hatch_bpf.portability.verdicts import ProgramVerdict, Reason
from tests.common import kernel_btfs, needs
from tests.common.btf_builder import RawBtf
from tests.common.on_kernels import KernelTypes, check_kernel

SOURCES = Path(__file__).parents[1] / "bpf" / "portability"


@cache
def compiled(file: str, cpu: str) -> bytes:
    needs.tool("clang")
    made = compile_source(
        PurePosixPath(file),
        root=SOURCES,
        arch=X86_64,
        toolchain=find_toolchain(),
        cflags=(f"-mcpu={cpu}",),
        environ=dict(os.environ),
    )
    return made.data


def model(file: str, cpu: str = "v1") -> ObjectModel:
    return read_object(compiled(file, cpu), path=f"{cpu}/{file.removesuffix('.c')}.o")


@cache
def btf_of(kernel: str) -> Btf:
    return Btf(kernel_btfs.read(kernel), source=kernel)


def verdicts_on(kernel: str, *models: ObjectModel) -> dict[tuple[str, str], ProgramVerdict]:
    """By path of the object and name of the program."""
    btf = btf_of(kernel)
    types = KernelTypes(Kernel.parse(kernel), btf, Btf(minimize(models, btf), source="minimized"))
    return {(found.object, found.program): found for found in check_kernel(Checker(models), types).programs}


def verdict(kernel: str, file: str, program: str) -> ProgramVerdict:
    obj = model(file)
    return verdicts_on(kernel, obj)[obj.path, program]


def message_for(reason: Reason, kernel: str) -> str:
    return f"{reason.what}: {remedy_for(reason, kernel, common(()), has_alternative=False)}"


def line_of(file: str, text: str, *, after: str = "") -> int:
    """Number of the first line of a source that holds `text`, behind the one that holds `after`."""
    lines = (SOURCES / file).read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if after in line)
    return next(number for number, line in enumerate(lines[start:], start + 1) if text in line)


def old_kernel() -> Btf:
    """Of the kind that people still meet: helpers, map and program types as of Linux 4.18, no global variables."""
    btf = RawBtf()
    btf.integer()
    btf.enum(
        "bpf_func_id",
        BPF_FUNC_map_lookup_elem=1,
        BPF_FUNC_map_update_elem=2,
        BPF_FUNC_map_delete_elem=3,
        BPF_FUNC_probe_read=4,
        BPF_FUNC_ktime_get_ns=5,
        BPF_FUNC_perf_event_output=25,
    )
    btf.enum("bpf_map_type", BPF_MAP_TYPE_UNSPEC=0, BPF_MAP_TYPE_HASH=1, BPF_MAP_TYPE_PERF_EVENT_ARRAY=4)
    btf.enum("bpf_prog_type", BPF_PROG_TYPE_SOCKET_FILTER=1, BPF_PROG_TYPE_KPROBE=2, BPF_PROG_TYPE_SCHED_CLS=3)
    btf.enum("bpf_attach_type", BPF_CGROUP_INET_INGRESS=0)
    btf.func("schedule", btf.func_proto(0))
    btf.func("vfs_read", btf.func_proto(0))
    return Btf(btf.build(), source="old kernel")


def version_of(kernel: str) -> tuple[int, ...]:
    return tuple(map(int, kernel.rsplit("/", 1)[1].split(".")[:2]))


@cache
def btf_of_host() -> Btf:
    return Btf(needs.host_btf().read_bytes(), source="host")
