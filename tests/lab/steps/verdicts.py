"""The portability report's verdicts against what real kernels say.

Each program of tests/bpf/portability and of Debian's libbpf-tools is loaded by itself, once with the kernel's own BTF,
and once with that hidden and the minimized BTF in its place. The first are compiled with -mcpu=v3: with v1, as a build
does it, `hatch-bpf try` itself loads them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

from hatch_bpf.arch import ARCHES
from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler.clang import compile_source
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.core_relo.minimize import minimize
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.portability.object_check import Checker
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict, Weight
from hatch_bpf.runtime.sections import parse_section
from tests.common import libbpf_load, objects
from tests.common.on_kernels import KernelTypes, check_kernel
from tests.common.skeleton_package import BPF
from tests.lab.step import Booted, Command, Output

SOURCES = BPF / "portability"
OURS = tuple(path.name.removesuffix(".bpf.c") + "-" for path in SOURCES.glob("*.bpf.c"))
"""How the names of our own small programs start."""
LISTED = re.compile(
    r"CO-RE relocation|unknown func|invalid func|failed to create|failed to find|kfunc|argument|func_info|BTF type ID|"
    r"reserved fields|unknown opcode|back-edge|too large|tail_calls are not|is not supported yet"
)
"""What libbpf and the verifier say when they refuse a program for a reason that the report knows."""
SECONDS = 10 * 60
"""How long it may take to load all programs; emulated, the verifier is slow."""
FLAVORS = (1, 3)
"""The first libbpf that finds kfuncs by their flavors."""
SCRIPT = Path(libbpf_load.__file__)


class Verdicts:
    """The step."""

    def __init__(self, arch: str) -> None:
        self._models = {f"{name}.bpf.o": read_object(data, path=f"{name}.bpf.o") for name, data in _objects(arch)}

    def install(self, folder: Path, booted: Booted) -> None:
        for name, model in self._models.items():
            (folder / name).write_bytes(model.elf)
        (folder / "minimized.btf").write_bytes(self._minimized(booted))
        shutil.copyfile(SCRIPT, folder / SCRIPT.name)

    def commands(self, _booted: Booted) -> tuple[Command, ...]:
        argv = ("python3", SCRIPT.name, *self._models)
        return (
            Command("verdicts", argv, seconds=SECONDS),
            Command("verdicts, BTF hidden", (*argv, "--btf", "minimized.btf"), hidden=True, seconds=SECONDS),
        )

    def judge(self, booted: Booted, command: Command, output: Output) -> Iterator[str]:
        guest, *records = output.records() or [{"libbpf": (0, 0)}]
        has_flavors = tuple(guest["libbpf"]) >= FLAVORS
        loaded = {(record["object"], record["program"]): record for record in records}
        types = KernelTypes(
            booted.kernel, Btf(booted.btf, source=str(booted.kernel)), Btf(self._minimized(booted), source="minimized")
        )
        counts: Counter[str] = Counter()
        for found in check_kernel(Checker(list(self._models.values())), types).programs:
            record = loaded.get((found.object, found.program))
            wanted = expected(found, self._models[found.object], hidden=command.hidden, has_flavors=has_flavors)
            if wanted is None:
                counts["not compared"] += 1
                continue
            counts[found.verdict.value] += 1
            if record is None or bool(record["error"]) == wanted:
                if record and wanted and not found.object.startswith(OURS) and not LISTED.search(record["log"]):
                    # what verifiers think of pointers and bounds differs too, and is no part of the report
                    counts["refused for other reasons"] += 1
                    continue
                yield f"WRONG {found.object} {found.program}: {found.verdict.value}, {json.dumps(record)}"
        yield ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))

    @cache  # noqa: B019  # a step lives as long as the lab
    def _minimized(self, booted: Booted) -> bytes:
        return minimize(list(self._models.values()), Btf(booted.btf, source=str(booted.kernel)))


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
    match found.at_load:
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
        made = compile_source(
            PurePosixPath(path.name),
            root=SOURCES,
            arch=ARCHES[arch],
            toolchain=toolchain,
            cflags=("-mcpu=v3",),
            environ=os.environ,
        )
        yield f"{path.name.removesuffix('.bpf.c')}-v3", made.data
    yield from objects.carved().items()
