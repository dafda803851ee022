"""What several commands share: the project they are run in, the archive they are given, and how they talk.

Input: a folder, or an option and the environment. Output: a `Project` or an archive, or the `HatchBpfError` of what is
wrong with them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_bpf.cli_terminal import make_room
from hatch_bpf.errors import ConfigError, Fault

if TYPE_CHECKING:  # each command imports what it needs, so that --help stays quick
    from hatch_bpf.kernels.remote import Archive
    from hatch_bpf.project import Project


def load_project(root: Path) -> Project:
    """The project in a folder, whichever of the two build systems it uses. Raises `ConfigError`."""
    from hatch_bpf import hatch_plugin, setuptools_plugin

    path = root / "pyproject.toml"
    if not path.is_file():
        raise ConfigError([Fault(str(path), "is not there: run this in the folder of a project")])
    found = [project for project in (hatch_plugin.load_project(root), setuptools_plugin.load_project(root)) if project]
    tables = f"[{hatch_plugin.KEY}] for hatchling, [{setuptools_plugin.KEY}] for setuptools"
    if not found:
        raise ConfigError([Fault(str(path), f"has no table for hatch-bpf: add {tables}")])
    if len(found) > 1:
        raise ConfigError([Fault(str(path), f"has two tables for hatch-bpf: keep one ({tables})")])
    return found[0]


def named_archive(option: str | None) -> Archive | None:
    """The BTF archive that an option names, else the environment. Raises `KernelError`."""
    from hatch_bpf.kernels import ARCHIVE_VARIABLE
    from hatch_bpf.kernels.remote import parse_archive

    text = option or os.environ.get(ARCHIVE_VARIABLE)
    return parse_archive(text, root=Path()) if text else None


def say(text: str) -> None:
    """A line for the user, beside what the command puts out."""
    make_room()
    print(f"hatch-bpf: {text}", file=sys.stderr, flush=True)
