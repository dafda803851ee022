"""`python -m tests.lab [KERNEL...]`: boot real kernels by `hatch-bpf try`, and do all of the lab's steps there.

Each kernel is booted once, with the repository's own programs and the example's. What a kernel does otherwise than a
verdict says is wrong, and so is what a step in tests/lab/steps/ finds to be. Prints a line for each kernel, and for
each command of a step. Exit status: 0 when nothing is wrong, 1 when something is, 2 when the lab failed. Needs qemu,
apt and clang; root it does not need.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hatch_bpf.arch import build_machine
from hatch_bpf.errors import HatchBpfError
from hatch_bpf.kernels.archive import list_kernels
from hatch_bpf.kernels.identity import Kernel, natural
from tests.common.projects import KERNELS, REPOSITORY, build_wheel
from tests.lab.debian import Apt
from tests.lab.packages import IMAGES, fetch, hatch_bpf
from tests.lab.project import RUN, add_steps, in_order, make_project, outputs
from tests.lab.step import Booted, Output, Step
from tests.lab.steps.alternatives import Alternatives
from tests.lab.steps.example import Example
from tests.lab.steps.kinds import Kinds
from tests.lab.steps.privileges import FOREMOST, Privileges
from tests.lab.steps.seeds import Seeds
from tests.lab.steps.verdicts import Verdicts
from tests.lab.userland import root_tar
from tests.system.test_privileges import TABLE

STEPS = ("alternatives", "example", "seeds", "kinds", "verdicts", "privileges")
BEYOND_BTF = {"loads__kprobe_inside"}
"""Programs that some kernels refuse to attach, of which BTF says nothing: no instruction begins at that offset."""
FENTRY = REPOSITORY / "examples" / "tcprtt_fentry"
"""Its own tests run in the guests that have this machine's Python."""
UNSEEN = "sends_a_signal"
"""The program whose fault no verdict sees, and which Linux 6.18 takes."""
UNSEEN_LOG = re.compile("(unknown func|cannot use helper) bpf_send_signal")
MEMORY, SECONDS = "1024", "1500"
"""Megabytes of a guest, and how long it may take."""
PARAMETERS = "lsm=lockdown,capability,bpf"
"""Of the kernels' command line, so that LSM programs run, and the kernel can be locked down."""


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    kernels = chosen(options.kernels)
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-lab-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        scratch = Path(folder)
        guests = list(_guests(kernels, scratch, Apt()))  # one apt at a time
        project = make_project(scratch / "project", kernels)
        wheel = pool.submit(build_wheel, project, scratch / "wheel")
        steps = _steps(options, sorted({kernel.arch for kernel in kernels}), scratch, pool)
        lab = _Lab(project, wheel.result(), steps)
        wrong = 0
        for guest, lines in zip(guests, pool.map(lambda guest: list(lab.run(guest)), guests), strict=True):
            wrong += sum(line.startswith("WRONG") for line in lines)
            print("\n".join(f"{guest.booted.kernel}: {line}" for line in lines), flush=True)
    return int(wrong > 0)


def chosen(patterns: list[str]) -> list[Kernel]:
    """The example's kernels that match, and those of Debian's others that are named in full."""
    known = [entry.kernel for entry in list_kernels(KERNELS)]
    found = []
    for pattern in patterns:
        matching = [kernel for kernel in known if fnmatchcase(str(kernel), pattern)]
        found += matching or [Kernel.parse(pattern)]
    return sorted(set(found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument(
        "kernels",
        nargs="*",
        default=["*/x86_64/*"],
        help="patterns over the kernels of example_project/kernels, or any other of Debian's by its full name",
    )
    parser.add_argument("--step", choices=STEPS, action="append", help="only these (default: all)")
    parser.add_argument("--all-privileges", action="store_true", help="also kinds that are the same on all kernels")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="guests at a time")
    return parser


@dataclass(frozen=True)
class _Guest:
    """A kernel to boot."""

    booted: Booted
    modules: Mapping[str, bytes]
    root: Path | None
    """The root file system; None for this machine's Python."""
    scratch: Path


def _guests(kernels: list[Kernel], scratch: Path, apt: Apt) -> Iterator[_Guest]:
    for number, kernel in enumerate(kernels):
        booted, modules = fetch(kernel, apt)
        yield _Guest(booted, modules, root_tar(kernel, apt), scratch / f"kernel-{number}")


def _steps(
    options: argparse.Namespace, archs: list[str], scratch: Path, pool: ThreadPoolExecutor
) -> dict[str, dict[str, Step]]:
    """The steps for each architecture, by their names."""
    own = build_machine()
    kinds = tuple(TABLE) if options.all_privileges else FOREMOST
    makers: dict[str, Callable[[Path, str], Step]] = {
        "alternatives": lambda _folder, _arch: Alternatives(),
        "example": lambda folder, _arch: Example(folder),
        "seeds": Seeds,
        "kinds": lambda folder, arch: Kinds(folder, arch),
        "verdicts": lambda _folder, arch: Verdicts(arch),
        "privileges": lambda folder, _arch: Privileges(folder, kinds),
    }
    made: dict[str, dict[str, Future[Step]]] = {arch: {} for arch in archs}
    for arch in archs:
        for name in options.step or STEPS:
            # its programs are compiled for this machine alone
            if name != "privileges" or (own is not None and own.name == arch):
                folder = scratch / arch / name
                folder.mkdir(parents=True)
                made[arch][name] = pool.submit(makers[name], folder, arch)
    return {arch: {name: step.result() for name, step in steps.items()} for arch, steps in made.items()}


@dataclass(frozen=True)
class _Lab:
    """Boots kernels."""

    project: Path
    wheel: Path
    steps: Mapping[str, Mapping[str, Step]]
    """By architecture and name."""

    def run(self, guest: _Guest) -> Iterator[str]:
        """Do all steps on a kernel: a line for each command, and those of what is wrong."""
        kernel = guest.booted.kernel
        if guest.root is None and kernel in {entry.kernel for entry in list_kernels(KERNELS)}:
            yield from _own_tests(kernel)
        steps = self.steps[kernel.arch]
        shutil.copytree(self.project, guest.scratch)
        add_steps(guest.scratch, guest.booted, guest.modules, steps)
        arguments = ["--images", str(IMAGES), "--wheel", str(self.wheel), "--memory", MEMORY, "--timeout", SECONDS]
        if guest.root:
            arguments += ["--root", str(guest.root)]
        command = ("--append", PARAMETERS, "--json", "--", "python", f"tests/{RUN.name}")
        (told,) = json.loads(hatch_bpf("try", str(kernel), *arguments, *command, cwd=guest.scratch).stdout)["kernels"]
        yield from _tried(told, kernel.release)
        printed = dict(outputs((told["command"] or {"output": ""})["output"]))
        for name, wanted in in_order(steps, guest.booted):
            output = printed.get(wanted.name, Output("", "it did not begin", 0.0))
            judged = list(steps[name].judge(guest.booted, wanted, output))
            if output.status != 0:
                judged.append(f"WRONG, {wanted.name} ends with status {output.status}:\n{output.text[-2000:]}")
            wrong = [line for line in judged if line.startswith("WRONG")]
            yield from wrong
            said = next((line for line in judged if line not in wrong), "nothing but what is wrong")
            yield f"{wanted.name}, {output.seconds:.0f} s: {said}"


def _own_tests(kernel: Kernel) -> Iterator[str]:
    """Try an example with its own tests."""
    (told,) = json.loads(hatch_bpf("try", str(kernel), "--images", str(IMAGES), "--json", cwd=FENTRY).stdout)["kernels"]
    yield from _tried(told, kernel.release)
    command = told["command"]
    if command and command["status"] == 0:
        yield f"{FENTRY.name}: {command['output'].strip().splitlines()[-1]}"
    else:
        yield f"WRONG, {FENTRY.name}'s own tests: {command}"


def _tried(told: Mapping[str, Any], release: str) -> Iterator[str]:
    """What `hatch-bpf try` says of a kernel."""
    programs = told["programs"]
    yield f"{len(programs)} programs, up and done in {told['seconds']} s ({told['accelerator']})"
    if told["fault"]:
        yield f"WRONG, {told['fault']}\n{told['last_lines']}"
    if not told["command"] or told["command"]["fault"]:
        yield f"WRONG, the command: {told['command']}"
    for program in programs:
        name = program["program"]
        if name == UNSEEN and natural(release) < natural("6.18"):
            found = [UNSEEN_LOG.search(program[way]["log"]) for way in ("own", "hidden") if way in program]
            is_right = program["verdict"] == "loads" and not program["agrees"] and bool(found) and all(found)
        else:
            is_right = program["agrees"] or name in BEYOND_BTF
        if not is_right:
            yield f"WRONG, {json.dumps(program)}"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HatchBpfError as error:
        print(error)
        sys.exit(2)
