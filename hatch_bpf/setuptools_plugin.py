"""setuptools' side: an adapter that adds a step `build_bpf` to `build`.

Input: the table `[tool.hatch-bpf]` of pyproject.toml, and setuptools' idea of the packages. Output: files in the build
folder for a wheel, in the source tree for an editable one, and what a build starts from in an sdist. setuptools calls
`finalize()` for every project that is built where hatch-bpf is installed; for one that has no such table and does not
require hatch-bpf it does nothing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from setuptools import Command, Distribution
from setuptools.command.build import build as build_command
from setuptools.command.sdist import sdist as sdist_command
from setuptools.errors import BaseError

from hatch_bpf import pipeline
from hatch_bpf.errors import ConfigError, Fault, HatchBpfError
from hatch_bpf.project.config import parse_config
from hatch_bpf.project.pyproject import SETUPTOOLS_KEY as KEY
from hatch_bpf.project.sources import Project, find_project, source_files
from hatch_bpf.support.context import Context
from hatch_bpf.support.files import disk_errors, write_whole
from hatch_bpf.support.progress import PacedLines
from hatch_bpf.wheel import source_tree

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_REQUIREMENT = re.compile(r"\s*hatch[-_.]+bpf(?![\w.-])", re.IGNORECASE)
"""How a requirement of hatch-bpf begins."""


class BuildBpf(Command):
    """Compile BPF programs and generate their skeletons."""

    description = "compile BPF programs and generate their skeletons"
    user_options: ClassVar[list[tuple[str, str, str]]] = []
    editable_mode = False
    """Set by setuptools for an editable build."""
    platform = "any"
    """Platform tag of the wheel, once it is built."""

    def initialize_options(self) -> None:
        self.build_lib = ""

    def finalize_options(self) -> None:
        self.build_lib = self.get_finalized_command("build").build_lib

    def run(self) -> None:
        """Build. Raises setuptools' own kind of error, which it prints without a traceback."""
        try:
            with disk_errors():
                self._build()
        except HatchBpfError as error:
            raise BaseError(f"hatch-bpf: {error}") from error

    def _build(self) -> None:
        project = _project(self, Path.cwd(), os.environ)
        artifacts = pipeline.build(project, _CONTEXT)
        if self.editable_mode:
            source_tree.write(artifacts.files, root=project.root)
            return
        source_tree.reject_foreign(artifacts, root=project.root)
        self.platform = artifacts.platform
        for file in artifacts.files:
            path = Path(self.build_lib, file.wheel_path)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, file.data)

    def get_source_files(self) -> list[str]:
        """What an sdist must carry: program sources, their headers, and the kernels that the project keeps itself."""
        try:
            # with the project's own archive: one that only the environment names is not part of the project
            return [str(path) for path in source_files(_project(self, Path.cwd(), {}))]
        except HatchBpfError as error:
            raise BaseError(f"hatch-bpf: {error}") from error

    def get_outputs(self) -> list[str]:
        """Files that are built and that nothing in the source tree corresponds to: setuptools asks, and needs none."""
        return []

    def get_output_mapping(self) -> dict[str, str]:
        """Built file -> source file: none, since everything is generated."""
        return {}


class Sdist(sdist_command):
    """The sdist, with what was built in it, so that it installs where there is no clang."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """setuptools' own, and the artifacts, which are made before: else a failure would leave half a tree.

        Raises setuptools' own kind of error.
        """
        try:
            with disk_errors():
                project = _project(self, Path.cwd(), os.environ)
                artifacts = pipeline.build(project.without_host(), _CONTEXT)
                source_tree.reject_foreign(artifacts, root=project.root)
                super().make_release_tree(base_dir, files)
                source_tree.write(artifacts.files, root=Path(base_dir))
        except HatchBpfError as error:
            raise BaseError(f"hatch-bpf: {error}") from error


def _get_tag(command: Any) -> tuple[str, str, str]:
    """bdist_wheel's `get_tag()`: any Python; and any platform, but for bundled libraries."""
    platform = command.get_finalized_command("build_bpf").platform
    command.root_is_pure = platform == "any"
    return "py3", "none", platform


def finalize(distribution: Distribution) -> None:
    """Entry point `setuptools.finalize_distribution_options`: add the step to `build`, if the project wants it.

    One that requires hatch-bpf and has no table gets the step too, which tells so: else its wheel would lack programs.
    """
    if not _wants_step(_pyproject(Path.cwd())):
        return
    base: type[Any] = distribution.cmdclass.get("build", build_command)
    step = ("build_bpf", None)
    distribution.cmdclass["build"] = type("build", (base,), {"sub_commands": [*base.sub_commands, step]})
    distribution.cmdclass["build_bpf"] = BuildBpf
    distribution.cmdclass.setdefault("sdist", Sdist)
    bdist_wheel = distribution.get_command_class("bdist_wheel")
    distribution.cmdclass["bdist_wheel"] = type("bdist_wheel", (bdist_wheel,), {"get_tag": _get_tag})


def load_project(root: Path) -> Project:
    """The project in a folder, whose pyproject.toml has the table. Raises `ConfigError`."""
    here = Path.cwd()
    os.chdir(root)  # setuptools knows no other way
    try:
        distribution = Distribution({"src_root": None})
        distribution.parse_config_files()
        distribution.set_defaults()  # type: ignore[attr-defined]  # finds packages; the stubs leave it out
        return _project(BuildBpf(distribution), root, os.environ)
    finally:
        os.chdir(here)


def _notify(text: str) -> None:
    print(f"hatch-bpf: {text}", flush=True)


_CONTEXT = Context(_notify, PacedLines(_notify))


def _pyproject(root: Path) -> Mapping[str, Any]:
    try:
        with (root / "pyproject.toml").open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}


def _table(pyproject: Mapping[str, Any]) -> Any:
    """What stands where the table should be; None where nothing does."""
    tool = pyproject.get("tool")
    return tool.get("hatch-bpf") if isinstance(tool, Mapping) else None


def _wants_step(pyproject: Mapping[str, Any]) -> bool:
    if _table(pyproject) is not None:
        return True
    system = pyproject.get("build-system")
    required = system.get("requires") if isinstance(system, Mapping) else None
    return isinstance(required, list) and any(_REQUIREMENT.match(str(text)) for text in required)


def _project(command: Command | sdist_command, root: Path, environ: Mapping[str, str]) -> Project:
    table = _table(_pyproject(root))
    if table is None:
        raise ConfigError(
            [
                Fault(
                    KEY,
                    "is missing: the project requires hatch-bpf, whose options setuptools has there; it may be empty",
                )
            ]
        )
    if not isinstance(table, Mapping):
        raise ConfigError([Fault(KEY, "must be a table")])
    build_py: Any = command.get_finalized_command("build_py")
    # a package's folder in the source tree -> its folder in the wheel
    folders = {
        PurePosixPath(Path(build_py.get_package_dir(package)).as_posix()): PurePosixPath(*package.split("."))
        for package in command.distribution.packages or ()
    }

    def wheel_path(name: str) -> str:
        path = PurePosixPath(name)
        for folder in path.parents:
            if folder in folders:
                return str(folders[folder] / path.relative_to(folder))
        return name

    return find_project(
        root=root,
        config=parse_config(table, key=KEY, root=root, environ=environ),
        key=KEY,
        packages=[str(folder) for folder in folders],
        wheel_path=wheel_path,
    )
