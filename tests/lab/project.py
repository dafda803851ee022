"""The project that `hatch-bpf try` is run on: the repository's own programs, the example's, and every step's files.

Input: a kernel and the steps. Output: a folder with the project, and from the command's output in the guest what each
of the steps' commands printed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import hatch_bpf
from hatch_bpf.kernels.identity import Kernel
from tests.common.projects import REPOSITORY
from tests.lab.packages import IMAGES, MODULES
from tests.lab.step import Booted, Command, Output, Step
from tests.lab.userland import has_libbpf

HERE = Path(__file__).parent
IN_GUEST = HERE / "in_guest"
RUN = IN_GUEST / "run.py"
PLAN = "plan.json"
LIBBPF = "libbpf.so.1"
TRIPLET = {"x86_64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
PYPROJECT = """\
[build-system]
requires = ["hatchling", "hatch-bpf"]
build-backend = "hatchling.build"

[project]
name = "own-programs"
version = "1"

[tool.hatch.build.targets.wheel]
packages = ["src/own_programs", "src/tcprtt"]

[tool.hatch.build.hooks.bpf]
archs = ["x86_64", "arm64"]
btf-archive = "{archive}"
kernels = [{kernels}]
alternatives = {{ unlinks = ["by_fentry", "by_kprobe"] }}
on-unportable = "ignore"
"""


def make_project(folder: Path, kernels: Iterable[Kernel]) -> Path:
    """A project with the repository's own programs and the example's."""
    package = folder / "src/own_programs"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for source in (HERE / "programs", HERE.parent / "bpf/portability"):
        for path in [*source.glob("*.bpf.c"), *source.glob("*.h")]:
            shutil.copyfile(path, package / path.name)
    shutil.copytree(REPOSITORY / "example_project/src/tcprtt", folder / "src/tcprtt")
    listed = ", ".join(f'"{kernel}"' for kernel in kernels)
    (folder / "pyproject.toml").write_text(PYPROJECT.format(archive=IMAGES, kernels=listed))
    return folder


def add_steps(project: Path, booted: Booted, modules: Mapping[str, bytes], steps: Mapping[str, Step]) -> None:
    """Put into the project's tests, which go into its guest, what the steps do on a kernel."""
    tests = project / "tests"
    tests.mkdir()
    shutil.copyfile(RUN, tests / RUN.name)
    for name, content in modules.items():
        (tests / name).write_bytes(content)
    for name, step in steps.items():
        (tests / name).mkdir()
        step.install(tests / name, booted)
    libbpf = ""
    if not has_libbpf(booted.kernel):
        arch = booted.kernel.arch
        shutil.copyfile(Path(hatch_bpf.__file__).parent / "_libbpf/lib" / arch / "glibc" / LIBBPF, tests / LIBBPF)
        libbpf = f"/usr/lib/{TRIPLET[arch]}/{LIBBPF}"
    commands = [{**asdict(command), "folder": name} for name, command in in_order(steps, booted)]
    plan = {"modules": MODULES, "libbpf": libbpf, "commands": commands}
    (tests / PLAN).write_text(json.dumps(plan))


def in_order(steps: Mapping[str, Step], booted: Booted) -> Sequence[tuple[str, Command]]:
    """The commands of all steps, by the steps' names; those that lock the kernel down come last."""
    commands = [(name, command) for name, step in steps.items() for command in step.commands(booted)]
    return sorted(commands, key=lambda named: named[1].locked_down)


def outputs(text: str) -> Iterator[tuple[str, Output]]:
    """What each command printed, by its name, out of the output of in_guest/run.py."""
    for part in text.split('\n{"begins": ')[1:]:
        name, _, rest = part.partition("}\n")
        printed, ended, record = rest.rpartition('\n{"ends": ')
        if ended:
            last = json.loads('{"ends": ' + record.partition("\n")[0])
            yield json.loads(name), Output(printed, last["status"], last["seconds"])
        else:
            yield json.loads(name), Output(rest, "the guest ended first", 0.0)
