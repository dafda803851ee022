"""`python -m tests.lab.verdicts`: the portability report's verdicts against what real kernels say, under qemu.

Each program of tests/bpf/portability and of Debian's libbpf-tools is loaded by itself on each kernel, once with the
kernel's own BTF, and once with that hidden and the minimized BTF in its place. A line for each kernel, and one for each
program whose verdict is wrong. Exit status: 0 when no verdict is wrong, 1 when one is, 2 when the lab itself failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hatch_bpf.arch import ARCHES
from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler.clang import compile_source
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.core_relo.minimize import minimize
from hatch_bpf.errors import HatchBpfError
from hatch_bpf.kernels.formats.kernel_file import read_btf
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.lab import cpio
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.portability.object_check import Checker, KernelTypes
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict, Weight
from hatch_bpf.runtime.sections import parse_section
from tests.common import libbpf_load, objects
from tests.lab.__main__ import _chosen
from tests.lab.lab import Lab, LabError, Outcome

SOURCES = Path(__file__).parents[1] / "bpf" / "portability"
OURS = tuple(path.name.removesuffix(".bpf.c") + "-" for path in SOURCES.glob("*.bpf.c"))
"""How the names of our own small programs start."""
LISTED = re.compile(
    r"CO-RE relocation|unknown func|invalid func|failed to create|failed to find|kfunc|argument|func_info|BTF type ID|"
    r"reserved fields|unknown opcode|back-edge|too large|tail_calls are not|is not supported yet"
)
"""What libbpf and the verifier say when they refuse a program for a reason that the report knows."""
OLD_LIBBPF = ("bullseye", "bookworm")
"""Suites whose libbpf is older than 1.3, which finds kfuncs otherwise."""
LAST_MINUTES = 15 * 60
"""Seconds for a machine to load all programs; emulated, the verifier is slow."""


@dataclass(frozen=True)
class Compared:
    """One kernel, in one of the two ways."""

    where: str
    counts: Mapping[str, int]
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        told = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        return "\n".join((f"{self.where}: {told}; {len(self.wrong)} wrong", *self.wrong))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.verdicts", description=__doc__)
    parser.add_argument("kernels", nargs="*", default=["*/x86_64/*"])
    parser.add_argument("--suite", default="bookworm", help="Debian release of Python and libbpf")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="virtual machines at a time")
    options = parser.parse_args(arguments)
    lab = Lab()
    jobs = [(kernel, hidden) for kernel in _chosen(options.kernels) for hidden in (False, True)]
    wrong = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for compared in pool.map(lambda job: compare(lab, *job, suite=options.suite), jobs):
            print(compared, flush=True)
            wrong += len(compared.wrong)
    return int(wrong > 0)


def compare(lab: Lab, kernel: Kernel, hidden: bool, *, suite: str) -> Compared:
    """Load everything on a kernel, with its own BTF or with the minimized one alone."""
    models = {f"{name}.bpf.o": read_object(data, path=f"{name}.bpf.o") for name, data in _objects(kernel.arch)}
    full = read_btf(lab.package(kernel))
    btf = Btf(full, source=str(kernel))
    minimized = minimize(list(models.values()), btf)
    report = Checker(list(models.values())).check(KernelTypes(kernel, btf, Btf(minimized, source="minimized")))
    files = {name: cpio.file(model.elf) for name, model in models.items()}
    files["libbpf_load.py"] = cpio.file(Path(libbpf_load.__file__).read_bytes())
    files["minimized.btf"] = cpio.file(minimized)
    custom = "--btf minimized.btf " if hidden else ""
    command = f"python3 libbpf_load.py {custom}{' '.join(models)}"
    outcome = _run(lab, kernel, command, files, suite=suite, hidden=hidden)
    loaded = {(record["object"], record["program"]): record for record in outcome.records()}
    counts: Counter[str] = Counter()
    wrong = []
    for found in report.programs:
        record = loaded.get((found.object, found.program))
        wanted = expected(found, models[found.object], hidden=hidden, has_flavors=suite not in OLD_LIBBPF)
        if wanted is None:
            counts["not compared"] += 1
            continue
        counts[found.verdict.value] += 1
        if record is None or bool(record["error"]) == wanted:
            if record and wanted and not found.object.startswith(OURS) and not LISTED.search(record["log"]):
                # what verifiers think of pointers and bounds differs too, and is no part of the report
                counts["refused for other reasons"] += 1
                continue
            wrong.append(f"WRONG {found.object} {found.program}: {found.verdict.value}, {json.dumps(record)}")
    return Compared(f"{kernel}, {'minimized' if hidden else 'own'} BTF", counts, tuple(wrong))


def _run(
    lab: Lab, kernel: Kernel, command: str, files: Mapping[str, cpio.Node], *, suite: str, hidden: bool
) -> Outcome:
    """Under load, an emulated machine now and then dies while it boots; it is given another chance."""
    for _ in range(2):
        try:
            return lab.run(kernel, command, files=files, suite=suite, hide_btf=hidden, timeout=LAST_MINUTES)
        except LabError as error:
            print(f"again, for {str(error).splitlines()[0]}", flush=True)
    return lab.run(kernel, command, files=files, suite=suite, hide_btf=hidden, timeout=LAST_MINUTES)


def expected(found: ProgramVerdict, model: ObjectModel, *, hidden: bool, has_flavors: bool) -> bool | None:
    """Whether a verdict says that the program loads as it is built; None where it leaves that open."""
    kinds = {reason.kind for reason in found.reasons}
    program = next(program for program in model.programs if program.name == found.program)
    section = parse_section(program.section)
    if section is not None and section.needs_kernel_btf and (not section.target or section.module):
        return None  # the application names the target, or a module has it
    if ReasonKind.KCONFIG_UNKNOWN in kinds:
        return None  # the virtual machine has no file of its kernel's configuration
    if kinds & {ReasonKind.MAP_UNSIZED, ReasonKind.ATTACH_TARGET_UNSET, ReasonKind.LIBBPF_TOO_OLD}:
        return None  # for the application to set, or for libbpf's version to decide
    if kinds & {ReasonKind.ATTACH_TYPE_MISSING, ReasonKind.ATTACH_UNSUPPORTED}:
        return None  # a failure of the attach, not of the load
    match found.verdict:
        case Verdict.FAILS:
            return False
        case Verdict.CONDITIONAL:
            if (loads := loads_with_libbpf(found, has_flavors=has_flavors)) is not None:
                return loads and not (hidden and ReasonKind.KERNEL_BTF in kinds)
            text = " ".join(reason.what for reason in found.reasons)
            return "(with the initial values of globals it is)" not in text
        case Verdict.NEEDS_KERNEL_BTF:
            # a wrong type id loads, and misleads
            return not hidden or ReasonKind.KERNEL_BTF not in kinds
        case _:
            return True


def loads_with_libbpf(found: ProgramVerdict, *, has_flavors: bool) -> bool | None:
    """Of a verdict that hangs on the version of libbpf, whether it says so for one; None for any other."""
    told = [reason.what for reason in found.reasons if reason.weight is Weight.CONDITIONAL]
    if not any(what.startswith("with libbpf") for what in told):
        return None
    ours = "1.3 and newer" if has_flavors else "before 1.3"
    return not any(what.startswith(f"with libbpf {ours}, ") for what in told)


def _objects(arch: str) -> Iterator[tuple[str, bytes]]:
    toolchain = find_toolchain()
    for path in sorted(SOURCES.glob("*.bpf.c")):
        for cpu in ("v1", "v3"):
            made = compile_source(
                PurePosixPath(path.name),
                root=SOURCES,
                arch=ARCHES[arch],
                toolchain=toolchain,
                cflags=(f"-mcpu={cpu}",),
                environ=os.environ,
            )
            yield f"{path.name.removesuffix('.bpf.c')}-{cpu}", made.data
    yield from objects.carved().items()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (HatchBpfError, LabError) as error:
        print(error)
        sys.exit(2)
