"""A project -> what goes into every guest: a Python, the wheel with what it requires, and the command.

Input: a project, perhaps a wheel, a command and another root file system. Output: a `Payload` for each architecture
whose guests have a Python. Raises `LabError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hatch_bpf.arch import build_machine
from hatch_bpf.lab.guest_files import GuestRoot, Payload
from hatch_bpf.lab.host_python import host_root
from hatch_bpf.lab.suite import own_tests
from hatch_bpf.lab.wheels import build_wheel, installed_nodes, wheel_nodes, wheel_requirements
from hatch_bpf.project.pyproject import read_pyproject
from hatch_bpf.project.sources import Project
from hatch_bpf.support.scratch import Scratch

PYTEST = ("python", "-m", "pytest", "-p", "no:cacheprovider")


def guest_archs(given: GuestRoot | None) -> set[str]:
    """The architectures whose guests have a Python: this machine's, and that of another root file system."""
    own = build_machine()
    return {root for root in (own.name if own else "", given.arch if given else "") if root}


def make_payloads(
    project: Project, archs: Iterable[str], given: GuestRoot | None, *, wheel: Path | None, command: Sequence[str]
) -> dict[str, Payload]:
    """The payload of each architecture; without a wheel it is built, and without a command pytest runs the tests.
    A command that names pytest gets it too.

    `given` is used for its own architecture, and this machine's Python for the other.
    """
    if wheel:
        site = wheel_nodes(wheel)
    else:
        with Scratch() as folder:
            site = wheel_nodes(build_wheel(project.root, read_pyproject(project.root), Path(folder)))
    requirements = wheel_requirements(site)
    tests = own_tests(project.root)
    command = command or (PYTEST if tests else ())
    if "pytest" in command:
        requirements.append("pytest")
    site = {**installed_nodes(requirements), **site}
    roots = (given if given and given.arch == arch else host_root(arch) for arch in archs)
    return {root.arch: Payload(root, site, tests, tuple(command)) for root in roots}
