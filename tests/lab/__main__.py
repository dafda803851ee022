"""`python -m tests.lab`: boot real kernels and load programs there, with their BTF and with it hidden.

Prints a line for each kernel and program. Exit status: 0 when each did what it must, 1 when not, 2 when the lab itself
failed. Needs qemu, apt and clang; root it does not need.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from hatch_bpf.arch import ARCHES
from hatch_bpf.compiler.clang import compile_source
from hatch_bpf.compiler.packages import CompiledPackage
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.errors import HatchBpfError
from hatch_bpf.kernels.archive import list_kernels
from hatch_bpf.kernels.formats.kernel_file import read_btf
from hatch_bpf.kernels.identity import Kernel, natural
from hatch_bpf.lab import cpio
from hatch_bpf.objects.model import read_object
from hatch_bpf.project.config import parse_config
from hatch_bpf.project.sources import Package, ProgramSource
from hatch_bpf.wheel.contents import lay_out
from tests.lab.guest import SUITES
from tests.lab.lab import Lab, LabError

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "example_project/kernels"
PROGRAMS = ("smoke_tracepoint", "smoke_kprobe", "smoke_fentry")
EITHER = "smoke_either"
"""The program with alternatives, which goes through a skeleton."""


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    chosen = _chosen(options.kernels)
    lab = Lab()
    failed = False
    jobs = [(kernel, hidden) for kernel in chosen for hidden in (False, True)]
    with ThreadPoolExecutor(options.jobs) as pool:
        done = pool.map(lambda job: _smoke(lab, *job, suite=options.suite), jobs)
        for lines in done:
            failed |= any(line.startswith("WRONG") for line in lines)
            print("\n".join(lines), flush=True)
    return 1 if failed else 0


def _chosen(patterns: list[str]) -> list[Kernel]:
    """The example's kernels that match, and those of Debian's others that are named in full."""
    known = [entry.kernel for entry in list_kernels(KERNELS)]
    chosen = []
    for pattern in patterns:
        matching = [kernel for kernel in known if fnmatchcase(str(kernel), pattern)]
        chosen += matching or [Kernel.parse(pattern)]
    return sorted(set(chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument(
        "kernels",
        nargs="*",
        default=["*/x86_64/*"],
        help="patterns over the kernels of example_project/kernels, or any other of Debian's by its full name",
    )
    able = [suite.name for suite in SUITES.values() if "libbpf1" in suite.packages]
    parser.add_argument("--suite", choices=able, default="bookworm", help="Debian release of Python and libbpf")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="virtual machines at a time")
    return parser


def _smoke(lab: Lab, kernel: Kernel, hidden: bool, *, suite: str) -> list[str]:
    """Run every smoke program on a kernel; a line for each, and one that starts with WRONG behind what went wrong."""
    files = {f"{name}.bpf.o": cpio.file(data) for name, data in _objects(kernel.arch)}
    files |= _either(kernel.arch)
    files["smoke.py"] = cpio.file((HERE / "smoke_in_guest.py").read_bytes())
    files["kernel.btf"] = cpio.file(read_btf(lab.package(kernel)))
    custom = " kernel.btf" if hidden else ""
    command = "\n".join(f"python3 smoke.py {name}.bpf.o{custom}" for name in PROGRAMS)
    command += f"\npython3 either.py{custom}"
    outcome = lab.run(kernel, command, files=files, suite=suite, hide_btf=hidden)
    where = f"{kernel}, {'BTF hidden' if hidden else 'own BTF'}"
    lines = [f"{where}: up and done in {outcome.seconds:.1f} s"]
    results = {record.pop("object"): record for record in outcome.records()}
    for name in (*PROGRAMS, EITHER):
        result = results.get(f"{name}.bpf.o", {"step": "nothing printed"})
        wanted = _wanted(name, kernel, hidden)
        lines.append(f"{where}, {name}: {result['step']}")
        if result["step"] != wanted:
            lines.append(f"WRONG, it should be: {wanted}; {result}")
    if any(line.startswith("WRONG") for line in lines):
        lines.append(outcome.output)
    return lines


def _wanted(program: str, kernel: Kernel, hidden: bool) -> str:
    """What must become of a program."""
    # arm64 has no ftrace direct calls before Linux 6.4
    is_attachable = kernel.arch != "arm64" or natural(kernel.release) >= natural("6.4")
    if program == "smoke_fentry":
        # libbpf and the kernel need the kernel's own BTF for it, whatever other BTF there is
        return "fails to load" if hidden else "works" if is_attachable else "fails to attach"
    if program == EITHER:
        return "works, by_fentry" if is_attachable and not hidden else "works, by_kprobe"
    return "works"


def _objects(arch: str) -> Iterable[tuple[str, bytes]]:
    for name in PROGRAMS:
        yield name, _compiled(name, arch)


def _compiled(name: str, arch: str) -> bytes:
    return compile_source(
        PurePosixPath(f"{name}.bpf.c"),
        root=HERE / "programs",
        arch=ARCHES[arch],
        toolchain=find_toolchain(),
        cflags=(),
        environ=os.environ,
    ).data


def _either(arch: str) -> dict[str, cpio.Node]:
    """The skeleton of the program with alternatives, what it needs, and what uses it."""
    options = {"archs": [arch], "alternatives": {"either": ["by_fentry", "by_kprobe"]}}
    config = parse_config(options, key="lab", root=HERE, environ={})
    source = ProgramSource(PurePosixPath(f"{EITHER}.bpf.c"), PurePosixPath(EITHER), 0)
    model = read_object(_compiled(EITHER, arch), path=source.object_name)
    compiled = CompiledPackage({arch: (model,)}, inputs={}, compiler="")
    laid_out = lay_out(Package((source,)), compiled, {}, config, None, programs=[model])
    files = {str(file.wheel_path): cpio.file(file.data) for file in laid_out}
    return {**files, "either.py": cpio.file((HERE / "either_in_guest.py").read_bytes())}


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (HatchBpfError, LabError) as error:
        print(error)
        sys.exit(2)
