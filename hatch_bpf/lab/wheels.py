"""A project -> its wheel, built here; a wheel, and what it needs that is installed here -> files for a guest.

Input: a project's folder, or a wheel. Output: nodes below `site`, laid out as pip does it. Raises `LabError`.
"""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterable
from email import message_from_string
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hatch_bpf.errors import LabError
from hatch_bpf.lab import cpio
from hatch_bpf.support.budget import Budget

SITE = "site"
"""Where packages are in a guest."""
BIN = "site/bin"
"""Where their commands are."""
PYTHON = "site/bin/python"
"""A link to the guest's interpreter."""

_STEPS_PER_FILE = 40
"""Steps of the budget that a file costs. Wheels of 10 MB have up to 3,000."""
# zipfile says RuntimeError where a password is needed, and NotImplementedError of methods that it does not know
_UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, configparser.Error)

_BUILD = """\
import importlib, sys
backend, out, *path = sys.argv[1:]
sys.path[:0] = path
module, _, attribute = backend.partition(":")
hooks = importlib.import_module(module)
for name in filter(None, attribute.split(".")):
    hooks = getattr(hooks, name)
hooks.build_wheel(out)
"""
"""Call a build back end (PEP 517) in an environment that has it."""


def build_wheel(root: Path, pyproject: dict[str, Any], out: Path) -> Path:
    """Build a project's wheel by its own build back end, as installed beside hatch-bpf."""
    system = pyproject.get("build-system", {})
    backend = system.get("build-backend", "setuptools.build_meta")
    path = [str(root / part) for part in system.get("backend-path", ())]
    argv = [sys.executable, "-c", _BUILD, backend, str(out), *path]
    done = subprocess.run(
        argv, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    wheels = sorted(out.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = "\n".join(done.stdout.rstrip().splitlines()[-20:])
        raise LabError(
            f"{backend} could not build the wheel of {root} with the packages that are installed beside hatch-bpf; "
            f"it said last:\n{said}"
        )
    return wheels[0]


def wheel_nodes(wheel: Path) -> dict[str, cpio.Node]:
    """A wheel's files, with a script for each of its commands."""
    nodes = {}
    try:
        budget = Budget(str(wheel), wheel.stat().st_size, error=LabError)
        with zipfile.ZipFile(wheel) as opened:
            for info in opened.infolist():
                budget.work(_STEPS_PER_FILE)
                budget.unpack(info.file_size)
                if not info.is_dir():
                    nodes[_installed(info.filename)] = cpio.file(
                        opened.read(info), executable=bool(info.external_attr >> 16 & 0o100)
                    )
        for path, node in list(nodes.items()):
            if path.endswith(".dist-info/entry_points.txt"):
                nodes |= _scripts(node.content.decode())
    except _UNREADABLE as error:
        raise LabError(f"this wheel cannot be read: {error}", source=wheel) from error
    return nodes


def wheel_requirements(nodes: dict[str, cpio.Node]) -> list[str]:
    """What an unpacked wheel says it requires."""
    for path, node in nodes.items():
        if path.endswith(".dist-info/METADATA"):
            return message_from_string(node.content.decode(errors="replace")).get_all("Requires-Dist", [])
    return []


def installed_nodes(requirements: Iterable[str]) -> dict[str, cpio.Node]:
    """Packages that are installed beside hatch-bpf, with all that they require in turn."""
    nodes: dict[str, cpio.Node] = {}
    pending, done = list(requirements), set[str]()
    while pending:
        text = pending.pop()
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise LabError(f"{text!r} is not the name of a package: {error}") from error
        name = canonicalize_name(requirement.name)
        if name in done or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        done.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise LabError(
                f"{name}, which goes into the guest, is not installed beside hatch-bpf: {sys.executable} -m pip "
                f"install {name}"
            ) from None
        if not requirement.specifier.contains(found.version, prereleases=True):
            raise LabError(
                f"{name} {found.version} is installed beside hatch-bpf, and the wheel requires {text}: "
                f"{sys.executable} -m pip install '{name}{requirement.specifier}'"
            )
        nodes |= _distribution(found)
        nodes |= _scripts(found.read_text("entry_points.txt") or "")
        pending += found.requires or ()
    return nodes


def _distribution(found: metadata.Distribution) -> dict[str, cpio.Node]:
    nodes = {}
    for path in found.files or ():
        located = Path(str(found.locate_file(path)))
        if ".." not in path.parts and located.is_file():
            nodes[f"{SITE}/{path.as_posix()}"] = cpio.file(located.read_bytes())
    return nodes


def _installed(name: str) -> str:
    """Where pip puts a file of a wheel."""
    parts = PurePosixPath(name).parts
    if len(parts) > 2 and parts[0].endswith(".data"):
        return "/".join((BIN if parts[1] == "scripts" else SITE, *parts[2:]))
    return f"{SITE}/{name}"


def _scripts(entry_points: str) -> dict[str, cpio.Node]:
    """The commands that `entry_points.txt` declares."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # names of commands keep their case
    parser.read_string(entry_points)
    nodes = {}
    for name, target in parser["console_scripts"].items() if parser.has_section("console_scripts") else ():
        module, _, function = target.partition("[")[0].strip().partition(":")
        text = f"#!/{PYTHON}\nimport sys\nfrom {module} import {function.split('.')[0]}\nsys.exit({function}())\n"
        nodes[f"{BIN}/{name}"] = cpio.file(text, executable=True)
    return nodes
