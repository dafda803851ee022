"""What tests/seeds builds, on real kernels: tests/seeds/exercises.py, with a wheel that embeds BTF.

Each exercise must do what its program's verdict says, and find what it must.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler.toolchain import find_toolchain
from hatch_bpf.objects.model import read_object
from hatch_bpf.portability.object_check import Checker
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict
from tests.common.on_kernels import KernelTypes, check_kernel
from tests.lab.step import Booted, Command, Output, both_ways
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


class Seeds:
    """The step."""

    def __init__(self, scratch: Path, arch: str) -> None:
        self._site = project.install(project.make_wheel(scratch, kernels=("debian/*/*/*",)), scratch / "site")
        self._objects = project.objects(self._site, arch)
        self._clang = find_toolchain().version[0]

    def install(self, folder: Path, booted: Booted) -> None:
        shutil.copytree(self._site, folder / "site")
        shutil.copyfile(project.EXERCISES, folder / "exercises.py")
        (folder / "config").write_text(booted.config)

    def commands(self, _booted: Booted) -> tuple[Command, ...]:
        environment = {"PYTHONPATH": "site", "KCONFIG": "config"}
        return both_ways("seeds", "python3", "exercises.py", environment=environment)

    def judge(self, booted: Booted, command: Command, output: Output) -> Iterator[str]:
        records = {record["exercise"]: record for record in output.records()}
        verdicts = self._verdicts(booted)
        wanted = self._outside(booted, hidden=command.hidden)
        told: Counter[str] = Counter()
        for exercise in exercises.EXERCISES:
            verdict = verdicts[PROGRAMS[exercise]]
            record = records.get(exercise, {"step": "nothing printed", "wrong": [], "found": {}})
            step = _wanted(exercise, verdict, command.hidden)
            faults = list(record["wrong"])
            if record["step"] != step:
                faults.append(f"it should be: {step}; {record.get('error', '')}")
            if record["step"] == "right":
                faults += _differences(record["found"], wanted.get(exercise, {}))
            told[record["step"]] += 1
            told["checks"] += record.get("checks", 0)
            yield from (f"WRONG, {exercise}, verdict {verdict.verdict.value}: {fault}" for fault in faults)
        yield ", ".join(f"{count} {what}" for what, count in sorted(told.items()))

    def _verdicts(self, booted: Booted) -> dict[tuple[str, str], ProgramVerdict]:
        models = [read_object(path.read_bytes(), path=name) for name, path in self._objects.items()]
        types = KernelTypes(booted.kernel, Btf(booted.btf, source=str(booted.kernel)))
        return {(found.object, found.program): found for found in check_kernel(Checker(models), types).programs}

    def _outside(self, booted: Booted, *, hidden: bool) -> dict[str, dict[str, int]]:
        """What the exercises must have found that only bpftool and the package can tell."""
        with tempfile.NamedTemporaryFile(suffix=".btf") as file:
            file.write(booted.btf)
            file.flush()
            btf = Path(file.name)
            facts = expected.facts(btf, self._objects["types"], clang=self._clang)
            wanted = {"utime": {"hz": booted.hz}, "types": facts}
            if not hidden:
                wanted["type_id"] = {"task_kernel_id": expected.task_id(btf)}
        return wanted


def _wanted(exercise: str, verdict: ProgramVerdict, hidden: bool) -> str:
    """What must become of an exercise, going by the verdict of the program that it is about."""
    if verdict.verdict is Verdict.FAILS:
        return "load"
    if verdict.verdict is Verdict.CONDITIONAL:
        return "load" if exercise == "fancy_helper_on" else "right"
    # a wrong type id loads, and misleads
    if hidden and ReasonKind.KERNEL_BTF in {reason.kind for reason in verdict.reasons}:
        return "load"
    if verdict.verdict is Verdict.CANNOT_ATTACH:
        return "attach"
    return "right"


def _differences(found: Mapping[str, Any], wanted: Mapping[str, int]) -> list[str]:
    return [f"{name} is {found.get(name)}, not {value}" for name, value in wanted.items() if found.get(name) != value]
