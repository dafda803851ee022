"""`python -m tests.lab.seeds`: what tests/seeds builds, on real kernels, with their BTF and with it hidden.

Builds a wheel of all of them, installs it with pip into a folder, and does tests/seeds/exercises.py with it in virtual
machines. Prints a line for each kernel, way and exercise: what became of it, which BTF was used, and the verdict of the
build. Exit status: 0 when each did what its verdict says and found what it must, 1 when not, 2 when the lab failed.
"""

from __future__ import annotations

import argparse
import lzma
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.errors import HatchBpfError
from hatch_bpf.kernels.formats.kernel_file import read_btf
from hatch_bpf.kernels.identity import Kernel, natural
from hatch_bpf.lab import cpio
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.portability.object_check import Checker, KernelTypes
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict
from tests.lab.__main__ import _chosen
from tests.lab.debs import deb_files
from tests.lab.guest import SUITES
from tests.lab.lab import Lab, LabError
from tests.seeds import exercises, expected, project

PROGRAMS = {
    "flat_ring": ("flat", "flat_ring"),
    "flat_perf": ("flat", "flat_perf"),
    "tcprtt_fentry": ("tcprtt_fentry", "tcp_close"),
    "opensnoop": ("opensnoop", "on_exit"),
    "runqslower_btf": ("runqslower", "btf_sched_switch"),
    "runqslower_raw": ("runqslower", "raw_sched_switch"),
    "thread": ("thread", "on_enter"),
    "utime": ("utime", "on_enter"),
    "fancy_helper_on": ("fancy_helper", "on_enter"),
    "fancy_helper_off": ("fancy_helper", "on_enter"),
    "bitfields_btf": ("bitfields", "btf_set_state"),
    "bitfields_raw": ("bitfields", "raw_set_state"),
    "reads_kernel": ("reads", "of_the_kernel"),
    "reads_user": ("reads", "of_the_user"),
    "types": ("types", "learn"),
    "type_id": ("types", "learn_kernel_id"),
}
"""Exercise -> object and program that it is about."""
MODULES = ("sch_ingress", "cls_bpf")
"""What Debian's kernels need for tc, in the order of loading."""
COMMAND = """\
for module in {modules}; do insmod $module.ko; done
PYTHONPATH=site KCONFIG=config python3 exercises.py
"""
MINUTES = 10 * 60
"""Seconds for a machine to do all exercises; emulated, Python and the verifier are slow."""


@dataclass(frozen=True)
class Built:
    """The installed package, and what the build knows of it."""

    site: Path
    clang: int

    def models(self, arch: str) -> dict[str, ObjectModel]:
        """The objects for an architecture, by the names of their sources."""
        found = project.objects(self.site, arch)
        return {name: read_object(path.read_bytes(), path=name) for name, path in found.items()}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.seeds", description=__doc__)
    parser.add_argument("kernels", nargs="*", default=["*/x86_64/*"])
    parser.add_argument("--suite", choices=SUITES, default="bookworm", help="Debian release of Python and libbpf")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="virtual machines at a time")
    options = parser.parse_args(arguments)
    lab = Lab()
    jobs = [(kernel, hidden) for kernel in _chosen(options.kernels) for hidden in (False, True)]
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-lab-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        built = _build(Path(folder))
        for lines in pool.map(lambda job: _run(lab, *job, built=built, suite=options.suite), jobs):
            wrong += sum("WRONG" in line for line in lines)
            print("\n".join(lines), flush=True)
    return int(wrong > 0)


def _build(folder: Path) -> Built:
    site = project.install(project.make_wheel(folder, kernels=("debian/*/*/*",)), folder / "site")
    return Built(site, find_toolchain().version[0])


def _run(lab: Lab, kernel: Kernel, hidden: bool, *, built: Built, suite: str) -> list[str]:
    """Do all exercises on a kernel; a line for each, with WRONG in it where something is not as it must be."""
    own = {name: node for package in lab.beside(kernel) for name, node in of_package(package, kernel)}
    files = {**own, **cpio.tree(built.site, "site"), "exercises.py": cpio.file(project.EXERCISES.read_bytes())}
    command = COMMAND.format(modules=" ".join(MODULES))
    outcome = lab.run(kernel, command, files=files, suite=suite, hide_btf=hidden, timeout=MINUTES)
    records = {record["exercise"]: record for record in outcome.records()}
    btf = read_btf(lab.package(kernel))
    verdicts = _verdicts(built, kernel, btf)
    where = f"{kernel}, {'BTF hidden' if hidden else 'own BTF'}"
    lines = [f"{where}: up and done in {outcome.seconds:.0f} s"]
    with tempfile.NamedTemporaryFile(suffix=".btf") as file:
        file.write(btf)
        file.flush()
        found = _outside(Path(file.name), built, kernel, config=own["config"].content.decode(), hidden=hidden)
    for exercise in exercises.EXERCISES:
        verdict = verdicts[PROGRAMS[exercise]]
        record = records.get(exercise, {"step": "nothing printed", "wrong": [], "found": {}})
        wanted = _wanted(exercise, verdict, kernel, hidden)
        faults = list(record["wrong"])
        if record["step"] != wanted:
            faults.append(f"it should be: {wanted}; {record.get('error', '')}")
        if record["step"] == "right":
            faults += _differences(record["found"], found.get(exercise, {}))
        told = f"{record['step']}, {record.get('checks', 0)} checks, BTF: {record.get('btf') or 'none'}"
        lines.append(f"{where}, {exercise}: {told}; verdict {verdict.verdict.value}")
        lines += [f"WRONG, {fault}" for fault in faults]
    if not records:
        lines.append(outcome.output)
    return lines


def of_package(package: Path, kernel: Kernel) -> Iterator[tuple[str, cpio.Node]]:
    """The kernel's configuration and modules."""
    for member, read in deb_files(package):
        path = PurePosixPath(member.name)
        stem = path.name.removesuffix(".xz").removesuffix(".ko")
        if stem in MODULES and ".ko" in path.suffixes:
            data = read()
            yield f"{stem}.ko", cpio.file(lzma.decompress(data) if path.suffix == ".xz" else data)
        elif path.name == f"config-{kernel.release}" or path.parts[-3:] == ("modules", kernel.release, "config"):
            yield "config", cpio.file(read())


def _verdicts(built: Built, kernel: Kernel, btf: bytes) -> dict[tuple[str, str], ProgramVerdict]:
    types = KernelTypes(kernel, Btf(btf, source=str(kernel)))
    report = Checker(list(built.models(kernel.arch).values())).check(types)
    return {(found.object, found.program): found for found in report.programs}


def _wanted(exercise: str, verdict: ProgramVerdict, kernel: Kernel, hidden: bool) -> str:
    """What must become of an exercise, going by the verdict of the program that it is about."""
    if verdict.verdict is Verdict.FAILS:
        return "load"
    if verdict.verdict is Verdict.CONDITIONAL:
        return "load" if exercise == "fancy_helper_on" else "right"
    # a wrong type id loads, and misleads
    if hidden and ReasonKind.KERNEL_BTF in {reason.kind for reason in verdict.reasons}:
        return "load"
    # arm64 has no ftrace direct calls before Linux 6.4, of which BTF tells nothing
    if exercise == "tcprtt_fentry" and kernel.arch == "arm64" and natural(kernel.release) < natural("6.4"):
        return "attach"
    return "right"


def _outside(btf: Path, built: Built, kernel: Kernel, *, config: str, hidden: bool) -> dict[str, dict[str, int]]:
    """What the exercises must have found that only bpftool and the package can tell."""
    hz = next(int(line.split("=")[1]) for line in config.splitlines() if line.startswith("CONFIG_HZ="))
    path = project.objects(built.site, kernel.arch)["types"]
    wanted = {"utime": {"hz": hz}, "types": expected.facts(btf, path, clang=built.clang)}
    if not hidden:
        wanted["type_id"] = {"task_kernel_id": expected.task_id(btf)}
    return wanted


def _differences(found: Mapping[str, Any], wanted: Mapping[str, int]) -> list[str]:
    return [f"{name} is {found.get(name)}, not {value}" for name, value in wanted.items() if found.get(name) != value]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (HatchBpfError, LabError) as error:
        print(error)
        sys.exit(2)
