"""`python -m tests.lab.privileges`: what SECURITY.md says of privileges, on real kernels, locked down ones as well.

Does tests/system/privileges_exercises.py in virtual machines, and prints a line for each kernel and kind of program.
Exit status: 0 when each did what it must and errors said what is missing, 1 when not, 2 when the lab failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatch_bpf.arch import build_machine
from hatch_bpf.errors import HatchBpfError
from hatch_bpf.kernels.identity import Kernel, natural
from hatch_bpf.lab import cpio
from tests.common.skeleton_package import BPF, make_package
from tests.lab.__main__ import _chosen
from tests.lab.lab import Lab, LabError
from tests.lab.seeds import MODULES, of_package
from tests.system.privileges_exercises import AFTERWARDS, LOW_MEMORY_LIMIT
from tests.system.test_privileges import ALL, EXERCISES, TABLE, names_it, tries

Told = Mapping[tuple[str, tuple[str, ...]], dict[str, Any]]

COMMAND = """\
mount -t securityfs securityfs /sys/kernel/security
echo 2 >/proc/sys/kernel/perf_event_paranoid
for module in {modules}; do insmod $module.ko; done
python3 privileges_exercises.py '{sets}'
"""
NETWORKING = ("CAP_BPF", "CAP_NET_ADMIN")
LOW_MEMORY = {LOW_MEMORY_LIMIT: [NETWORKING, (*NETWORKING, "CAP_SYS_RESOURCE")]}
BEFORE = {
    AFTERWARDS: ("5.19", ("CAP_BPF",)),
    "uprobe": ("6.1", ("CAP_BPF", "CAP_PERFMON")),  # stable kernels got the other rule at different times
}
"""Kinds for which kernels before a version want others than the table says."""
FOREMOST = ("kprobe", "fentry", "lsm", "uprobe", "tp", AFTERWARDS)
"""Kinds that differ between kernels, or that not every machine has on which the tests run."""
LOCKED_DOWN = ("xdp", "raw_tp", "kprobe", "reads kernel memory")
"""Kinds to try from root where the kernel is locked down; the first two read nothing of the kernel's."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.privileges", description=__doc__)
    parser.add_argument("kernels", nargs="*", default=["*/x86_64/*"])
    parser.add_argument("--all", action="store_true", help="every kind; else those that differ between kernels")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="virtual machines at a time")
    options = parser.parse_args(arguments)
    arch = build_machine()
    chosen = [kernel for kernel in _chosen(options.kernels) if arch is not None and kernel.arch == arch.name]
    lab = Lab()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-lab-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        package = make_package(BPF / "privileges.bpf.c", Path(folder))
        files = {**cpio.tree(package.root / "demo", "demo"), EXERCISES.name: cpio.file(EXERCISES.read_bytes())}
        jobs = [(kernel, lockdown) for kernel in chosen for lockdown in (False, True)]
        kinds = tuple(TABLE) if options.all else FOREMOST
        for lines in pool.map(lambda job: _run(lab, job[0], files, kinds=kinds, lockdown=job[1]), jobs):
            wrong += sum("WRONG" in line for line in lines)
            print("\n".join(lines), flush=True)
    return int(wrong > 0)


def _run(
    lab: Lab, kernel: Kernel, files: Mapping[str, cpio.Node], *, kinds: tuple[str, ...], lockdown: bool
) -> list[str]:
    """Try the kinds on a kernel; a line for each, with WRONG in it where something is not as it must be."""
    own = {name: node for package in lab.beside(kernel) for name, node in of_package(package, kernel)}
    sets: dict[str, object] = {kind: [ALL] for kind in LOCKED_DOWN}
    if not lockdown:
        sets = {**{kind: tries(_wanted(kind, kernel)) for kind in kinds}, **LOW_MEMORY}
    command = COMMAND.format(modules=" ".join(MODULES), sets=json.dumps(sets))
    boot = ("lockdown=confidentiality",) if lockdown else ()
    outcome = lab.run(kernel, command, files={**own, **files}, parameters=boot, timeout=600)
    told = {(record["kind"], tuple(record["capabilities"])): record for record in outcome.records()}
    where = f"{kernel}, {'locked down' if lockdown else f'{len(told)} tries'}"
    check = _faults_locked_down if lockdown else _faults
    lines = [f"{where}: up and done in {outcome.seconds:.0f} s"]
    if len(told) < sum(map(len, sets.values())):
        return [*lines, "WRONG, tries are missing", outcome.output]
    for kind in sets:
        faults = check(kind, kernel, told)
        lines.append(f"{where}, {kind}: {'right' if not faults else 'not right'}")
        lines += [f"WRONG, {fault}" for fault in faults]
    return lines


def _wanted(kind: str, kernel: Kernel) -> tuple[str, ...]:
    """The capabilities that a kind needs on a kernel."""
    version, capabilities = BEFORE.get(kind, ("0", ()))
    return capabilities if natural(kernel.release) < natural(version) else TABLE[kind]


def _faults(kind: str, kernel: Kernel, told: Told) -> list[str]:
    """What is not as the table has it."""
    if kind == LOW_MEMORY_LIMIT:
        return _faults_low_memory(kernel, told)
    capabilities, *fewer = tries(_wanted(kind, kernel))[1:]
    if told[kind, ALL]["step"] != "works":
        return [f"it fails with all capabilities: {told[kind, ALL]}"]
    faults = []
    if told[kind, capabilities]["step"] != "works":
        faults.append(f"{capabilities} are not enough: {told[kind, capabilities]}")
    for name, fewer_of_them in zip(capabilities, fewer, strict=True):
        record = told[kind, fewer_of_them]
        if record["step"] == "works":
            faults.append(f"it works without {name}")
        elif not names_it(record["error"], name):
            faults.append(f"{name} is not named: {record['error']}")
    return faults


def _faults_low_memory(kernel: Kernel, told: Told) -> list[str]:
    limited, raised = (told[LOW_MEMORY_LIMIT, capabilities] for capabilities in LOW_MEMORY[LOW_MEMORY_LIMIT])
    counts = natural(kernel.release) < natural("5.11")
    faults = [] if raised["step"] == "works" else [f"CAP_SYS_RESOURCE does not help: {raised}"]
    if (limited["step"] == "load") != counts:
        faults.append(f"the limit should {'' if counts else 'not '}matter: {limited}")
    if counts and "counts against RLIMIT_MEMLOCK, here 4 KB: raise it (ulimit -l" not in limited["error"]:
        faults.append(f"the limit is not named: {limited['error']}")
    return faults


def _faults_locked_down(kind: str, kernel: Kernel, told: Told) -> list[str]:
    record = told[kind, ALL]
    if kind in LOCKED_DOWN[:2]:
        return [] if record["step"] == "works" else [f"it fails: {record}"]
    if record["step"] == "works":
        return [f"it works on {kernel}"]
    return [] if "the kernel is locked down (confidentiality)" in record["error"] else [record["error"]]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (HatchBpfError, LabError) as error:
        print(error)
        sys.exit(2)
