"""What SECURITY.md says of privileges, on real kernels, locked down ones as well.

Does tests/system/privileges_exercises.py: each must do what it must, and errors must say what is missing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hatch_bpf.kernels.identity import Kernel, natural
from tests.common.skeleton_package import BPF, make_package
from tests.lab.step import Booted, Command, Output
from tests.system.privileges_exercises import AFTERWARDS, LOW_MEMORY_LIMIT
from tests.system.test_privileges import ALL, EXERCISES, TABLE, names_it, tries

Told = Mapping[tuple[str, tuple[str, ...]], dict[str, Any]]

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


class Privileges:
    """The step, for this machine's architecture. `kinds` are those to try."""

    def __init__(self, scratch: Path, kinds: tuple[str, ...] = FOREMOST) -> None:
        self._package = make_package(BPF / "privileges.bpf.c", scratch)
        self._kinds = kinds

    def install(self, folder: Path, _booted: Booted) -> None:
        shutil.copytree(self._package.root / "demo", folder / "demo")
        shutil.copyfile(EXERCISES, folder / EXERCISES.name)

    def commands(self, booted: Booted) -> tuple[Command, ...]:
        sets = {**{kind: tries(_wanted(kind, booted.kernel)) for kind in self._kinds}, **LOW_MEMORY}
        argv = ("python3", EXERCISES.name)
        return (
            Command("privileges", (*argv, json.dumps(sets))),
            Command("locked down", (*argv, json.dumps({kind: [ALL] for kind in LOCKED_DOWN})), locked_down=True),
        )

    def judge(self, booted: Booted, command: Command, output: Output) -> Iterator[str]:
        told = {(record["kind"], tuple(record["capabilities"])): record for record in output.records()}
        sets = json.loads(command.argv[-1])
        if len(told) < sum(map(len, sets.values())):
            yield f"WRONG, tries are missing:\n{output.text}"
            return
        check = _faults_locked_down if command.locked_down else _faults
        for kind in sets:
            yield from (f"WRONG, {kind}: {fault}" for fault in check(kind, booted.kernel, told))
        yield f"{len(told)} tries of {len(sets)} kinds"


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
