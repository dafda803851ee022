"""What several commands share: loading the project, finding the archive, and printing.

Input: a folder, or an option and the environment. Output: a `Project` or an archive, or the `HatchBpfError` that says
what is wrong.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hatch_bpf.arch import ARCHES
from hatch_bpf.cli.terminal import make_room
from hatch_bpf.errors import ConfigError, Fault, HatchBpfError, ObjectError, ToolchainError
from hatch_bpf.runtime.printable import printable

if TYPE_CHECKING:  # each command imports what it needs, so that --help stays quick
    from hatch_bpf.kernels.any_archive import Archive
    from hatch_bpf.kernels.matrix import Entry, Matrix
    from hatch_bpf.objects.model import ObjectModel
    from hatch_bpf.portability.trial import Trial
    from hatch_bpf.portability.verdicts import Report
    from hatch_bpf.project.sources import Project
    from hatch_bpf.support.context import Notify
    from hatch_bpf.wheel.artifacts import Artifact


def offer(action: argparse.Action, values: Iterable[str]) -> None:
    """Let completion suggest values for an argument for which argparse has no `choices`."""
    action.offered = tuple(values)  # type: ignore[attr-defined]


class CommandParser(argparse.ArgumentParser):
    """Leaves what is behind `--` to commands that pass it on, in `guest_command`."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        passes_on = self.get_default("takes_command")
        at = given.index("--") if passes_on and "--" in given else len(given)
        found, left = super().parse_known_args(given[:at], namespace)
        if passes_on:
            found.guest_command = given[at + 1 :]
        if left:  # here, where the command's own options are known
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return found, left

    def error(self, message: str) -> NoReturn:
        """As argparse does, naming the command or option that may have been meant."""
        from difflib import get_close_matches

        offered = [name for action in self._actions for name in (*action.option_strings, *(action.choices or ()))]
        wrong = re.search(r"invalid choice: '([^']*)'|unrecognized arguments: ([^\s=]+)", message)
        for near in get_close_matches((wrong[1] or wrong[2]) if wrong else "", offered, n=1, cutoff=0.75):
            message += f"; did you mean {near}?"
        super().error(message)


class HelpFormatter(argparse.HelpFormatter):
    """Wraps descriptions to the terminal's width, but not examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def examples(*lines: str, status: str = "") -> dict[str, Any]:
    """Arguments for an argument parser, which shows these command lines and exit statuses below its options."""
    text = "examples:\n" + "".join(f"  hatch-bpf {line}\n" for line in lines)
    text += f"\nexit status: {status}\n" * bool(status)
    return {"epilog": text, "formatter_class": HelpFormatter}


def load_project(root: Path) -> Project:
    """The project in a folder, whichever of the two build systems it uses. Raises `ConfigError` or `ToolchainError`."""
    from hatch_bpf import hatch_plugin
    from hatch_bpf.project.pyproject import SETUPTOOLS_KEY, build_backend, read_pyproject, value_at

    path = root / "pyproject.toml"
    pyproject = read_pyproject(root)
    tables = {"hatchling": hatch_plugin.KEY, "setuptools": SETUPTOOLS_KEY}
    found: dict[str, Project] = {}
    try:
        in_hatchling = hatch_plugin.load_hatch_project(root)
        if in_hatchling is not None:
            found["hatchling"] = in_hatchling
        if value_at(pyproject, SETUPTOOLS_KEY) is not None:
            found["setuptools"] = _load_by_setuptools(root)
    except (TypeError, ValueError, RecursionError) as error:  # raised by either build system about its own tables
        also = " (or hatch.toml beside it)" if (root / "hatch.toml").exists() else ""
        raise ConfigError([Fault(f"{path}{also}", f"cannot be used: {error}")]) from error
    named = ", ".join(f"[{key}] for {system}" for system, key in tables.items())
    if not found:
        raise ConfigError([Fault(str(path), f"has no table for hatch-bpf: add {named}")])
    if len(found) > 1:
        raise ConfigError([Fault(str(path), f"has two tables for hatch-bpf: keep one ({named})")])
    ((system, project),) = found.items()
    backend = build_backend(pyproject)
    if backend in tables and backend != system:
        rule = f"has [{tables[system]}], which {backend} does not read: call the table [{tables[backend]}]"
        raise ConfigError([Fault(str(path), rule)])
    return project


def _load_by_setuptools(root: Path) -> Project:
    """Load a project by setuptools, which only its own projects need to have installed."""
    try:
        from hatch_bpf import setuptools_project
    except ModuleNotFoundError as error:
        rule = "the project is built by setuptools, which is not installed here: pip install setuptools"
        raise ToolchainError(rule) from error
    try:
        return setuptools_project.load_setuptools_project(root)
    except HatchBpfError:
        raise
    except Exception as error:  # of any kind: setuptools also imports and runs what the project names
        raise ValueError(f"{type(error).__name__}: {error}") from error


def named_archive(option: str | None) -> Archive | None:
    """The BTF archive that an option names, or else BTFHUB_ARCHIVE. Raises `KernelError`."""
    from hatch_bpf.kernels.any_archive import parse_archive
    from hatch_bpf.kernels.archive import ARCHIVE_VARIABLE

    text = option or os.environ.get(ARCHIVE_VARIABLE)
    return parse_archive(text, root=Path()) if text else None


def written_files(files: Sequence[Artifact], root: Path = Path()) -> str:
    """One line that says what was written below a folder: the skeletons, and how many other files."""
    from hatch_bpf.project.sources import BPF_DIR

    skeletons = [root / file.tree_path for file in files if file.tree_path.name.endswith("_skel.py")]
    folders = sorted({root / file.tree_path.parent for file in files if file.tree_path.parent.name == BPF_DIR})
    return f"{_few(skeletons, 'skeletons')}, and {len(files) - len(skeletons)} files in {_few(folders, 'folders')}"


def _few(paths: Sequence[Path], what: str) -> str:
    return printable(", ".join(map(str, paths))) if len(paths) <= 3 else f"{len(paths)} {what}"


def write_page(path: Path, report: Report, *, of_project: bool, trial: Trial | None = None) -> None:
    """Write the report as an HTML page, with the name of the project in this folder if the report is about it."""
    from hatch_bpf.portability.html import render_html
    from hatch_bpf.project.pyproject import name_and_version, read_pyproject
    from hatch_bpf.support.files import write_whole

    title = name_and_version(read_pyproject(Path.cwd())) if of_project else ""
    write_whole(path, render_html(report, project=title, trial=trial).encode())


def say(text: str) -> None:
    """Print a line for the user to standard error."""
    make_room()
    print("hatch-bpf:", printable(text, keep="\n\t"), file=sys.stderr, flush=True)


def add_alternatives_options(command: argparse.ArgumentParser) -> None:
    """The options `--alternatives` and `--optional`, for objects that belong to no project."""
    command.add_argument(
        "--alternatives",
        metavar="NAME=A,B",
        action="append",
        default=[],
        help="programs, or ring and perf buffers, of an OBJECT: the first one that the machine accepts is used",
    )
    command.add_argument(
        "--optional", metavar="PROGRAM", action="append", default=[], help="an OBJECT's program that may be left out"
    )


def alternatives_table(options: argparse.Namespace) -> dict[str, Any]:
    """The same options in the form of a project's table."""
    groups = dict(group.partition("=")[::2] for group in options.alternatives)
    return {
        "alternatives": {name: members.split(",") for name, members in groups.items()},
        "optional": options.optional,
    }


def entries_of(patterns: Sequence[str]) -> tuple[Entry, ...]:
    """The entries that `--match` names, as in a project's option `kernels`."""
    from hatch_bpf.kernels.matrix import named_entry

    return tuple(map(named_entry, patterns))


def kernels_of(archive: Archive | None, patterns: Sequence[str] | None, notify: Notify) -> Matrix:
    """The kernels of an archive that `--match` names: all of them without it. Raises `KernelError`."""
    from hatch_bpf.kernels.matrix import resolve

    matrix = resolve(entries_of(patterns or ["*/*/*/*"]), archs=ARCHES, archive=archive)
    matrix.warn(notify)
    return matrix


def read_object_file(path: Path) -> ObjectModel:
    """Read a BPF object. Raises `ObjectError`."""
    from hatch_bpf.kernels.formats.elf import MAGIC as ELF_MAGIC
    from hatch_bpf.objects.model import read_object
    from hatch_bpf.support.budget import OBJECT_BYTES
    from hatch_bpf.support.files import read_regular

    if path.is_dir():
        raise ObjectError(f"{path} is a folder: name BPF objects, or run this in a project's folder without naming any")
    try:
        data = read_regular(path, OBJECT_BYTES.most)
    except OSError as error:
        raise ObjectError(f"{path} cannot be read: {error.strerror}") from error
    if not data.startswith(ELF_MAGIC):
        raise ObjectError(
            f"{path} is not a BPF object: name what `clang -target bpf -g -O2 -c` makes of a source, or run "
            "`hatch-bpf check` in a project's folder"
        )
    return read_object(data, path=str(path))
