"""setuptools' idea of a project -> `Project`.

Input: the folder of a project, or setuptools' `Distribution` of it. Output: a `Project`, or `ConfigError`; and whether
setuptools is to build BPF programs at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import setuptools
from packaging.version import Version
from setuptools.errors import BaseError

from hatch_bpf.errors import ConfigError, HatchBpfError, ToolchainError
from hatch_bpf.project.pyproject import (
    SETUPTOOLS_KEY,
    SETUPTOOLS_MINIMUM,
    read_pyproject,
    requires_hatch_bpf,
    setuptools_table,
    value_at,
)
from hatch_bpf.project.sources import Project, find_project
from hatch_bpf.support.files import disk_errors


def wants_step(root: Path) -> bool:
    """Whether the project is to be built with BPF programs. Raises `ToolchainError` if this setuptools is too old.

    One that requires hatch-bpf and has no table wants it too, and is told what is missing: else its wheel would lack
    the programs.
    """
    try:
        pyproject = read_pyproject(root)
    except ConfigError:  # there is none, or setuptools will say what is wrong with it
        return False
    if value_at(pyproject, SETUPTOOLS_KEY) is None and not requires_hatch_bpf(pyproject):
        return False
    _check_version()
    return True


@contextmanager
def user_errors() -> Iterator[None]:
    """Let setuptools print what a user can mend, without a traceback."""
    try:
        with disk_errors():
            yield
    except HatchBpfError as error:
        raise BaseError(f"hatch-bpf: {error}") from error


def load_setuptools_project(root: Path) -> Project:
    """The project in a folder, whose pyproject.toml has the table. Raises `ConfigError` or `ToolchainError`."""
    _check_version()
    here = Path.cwd()
    os.chdir(root)  # setuptools knows no other way
    try:
        distribution = setuptools.Distribution({"src_root": None})
        distribution.parse_config_files()
        distribution.set_defaults()  # type: ignore[attr-defined]  # finds packages; the stubs leave it out
        return project_of(distribution)
    finally:
        os.chdir(here)


def project_of(distribution: setuptools.Distribution, environ: Mapping[str, str] = os.environ) -> Project:
    """The project in the current folder, with the packages that setuptools has found. Raises `ConfigError`."""
    root = Path.cwd()
    table = setuptools_table(read_pyproject(root))
    build_py: Any = distribution.get_command_obj("build_py")
    build_py.ensure_finalized()
    # a package's folder in the source tree -> its folder in the wheel
    folders = {
        PurePosixPath(Path(build_py.get_package_dir(package)).as_posix()): PurePosixPath(*package.split("."))
        for package in distribution.packages or ()
    }

    def wheel_path(name: str) -> str:
        path = PurePosixPath(name)
        folder = next((parent for parent in path.parents if parent in folders), None)
        return str(folders[folder] / path.relative_to(folder)) if folder else name

    return find_project(
        table, key=SETUPTOOLS_KEY, root=root, packages=list(map(str, folders)), wheel_path=wheel_path, environ=environ
    )


def _check_version() -> None:
    if Version(setuptools.__version__) < Version(SETUPTOOLS_MINIMUM):
        raise ToolchainError(
            f"setuptools {setuptools.__version__} is too old: {SETUPTOOLS_MINIMUM} is the first that makes wheels by "
            "itself. "
            f'Let build-system.requires in pyproject.toml name "setuptools>={SETUPTOOLS_MINIMUM}", or run '
            f"pip install 'setuptools>={SETUPTOOLS_MINIMUM}'"
        )
