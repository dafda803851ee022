"""The example's wheel on real kernels: what it tells of connections is held against the kernel's TCP_INFO.

The wheel brings libbpf. Debian 11's guest installs it with its own pip.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from hatch_bpf.kernels.archive import list_kernels
from tests.common.projects import KERNELS, REPOSITORY, build_wheel
from tests.lab.project import IN_GUEST
from tests.lab.step import Booted, Command, Output, both_ways
from tests.lab.userland import has_pip
from tests.seeds.project import install

EXAMPLE = REPOSITORY / "example_project"
SCRIPT = IN_GUEST / "connections.py"
OWN, EMBEDDED = "Types: the kernel's own BTF", "Types: the BTF embedded in the package for "
PIP = (
    "python3",
    "-m",
    "pip",
    "--disable-pip-version-check",
    "install",
    "--no-compile",
    "--no-index",
    "--no-deps",
    "--target",
    "site",
)


class Example:
    """The step."""

    def __init__(self, scratch: Path) -> None:
        self.wheel = build_wheel(EXAMPLE, scratch / "wheel")
        self._embedded = {entry.kernel for entry in list_kernels(KERNELS)}
        self._installed = install(self.wheel, scratch / "site")

    def install(self, folder: Path, booted: Booted) -> None:
        shutil.copyfile(SCRIPT, folder / SCRIPT.name)
        if has_pip(booted.kernel):
            shutil.copyfile(self.wheel, folder / self.wheel.name)
        else:
            shutil.copytree(self._installed, folder / "site")

    def commands(self, booted: Booted) -> tuple[Command, ...]:
        pip = (Command("pip", (*PIP, self.wheel.name)),) if has_pip(booted.kernel) else ()
        return (*pip, *both_ways("example", "python3", SCRIPT.name, environment={"PYTHONPATH": "site"}))

    def judge(self, booted: Booted, command: Command, output: Output) -> Iterator[str]:
        if command.name == "pip":
            if output.status == 0:
                yield f"installed {self.wheel.name}"
            return
        (record,) = output.records() or [{"status": "nothing printed", "told": 0}]
        if command.hidden and booted.kernel not in self._embedded:
            is_right = record["status"] == 1 and "no BTF for" in output.text
            yield "refused" if is_right else f"WRONG, it should have been refused:\n{output.text}"
        elif (EMBEDDED if command.hidden else OWN) not in output.text:
            yield f"WRONG, this is not the BTF to use:\n{output.text}"
        elif record["status"] != 0 or not record["told"] or record["right"] != record["told"]:
            yield f"WRONG, some events are not what TCP_INFO says:\n{output.text}"
        else:
            yield f"{record['events']} events, {record['right']} of {record['told']} as TCP_INFO has them"
