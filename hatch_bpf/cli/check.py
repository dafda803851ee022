"""The command `hatch-bpf check`: whether programs will load on kernels.

Input: a command line. Output: an exit status: 0 when every program loads, 1 when some fail, 2 when something cannot be
read or written.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_bpf.cli.common import (
    add_alternatives_options,
    alternatives_table,
    entries_of,
    examples,
    kernels_of,
    load_project,
    named_archive,
    offer,
    read_object_file,
    say,
    write_page,
)
from hatch_bpf.cli.terminal import colours, console, meter
from hatch_bpf.errors import ConfigError, Fault, KernelError
from hatch_bpf.kernels import HOST
from hatch_bpf.support.context import Context

if TYPE_CHECKING:  # each command imports what it needs, so that --help stays quick
    from hatch_bpf.kernels.any_archive import Archive
    from hatch_bpf.portability.verdicts import Report


def add_check(commands: Any) -> None:
    """Add `check` to the commands of an argument parser."""
    command = commands.add_parser(
        "check",
        help="show for every program and kernel whether it loads there, and why not",
        description="Predict whether BPF programs will load on kernels, from the kernels' BTF alone. "
        "Without OBJECT, the project in the current folder is compiled and checked on its own kernel matrix.",
        **examples(
            "check                          this project, on its kernel matrix",
            "check --match 'debian/12/*/*'  this project, on other kernels of its archive",
            "check prog.bpf.o --kernels ARCHIVE --json",
            "check prog.bpf.o --match host --alternatives on_close=fentry_close,kprobe_close",
            "check --html report.html       also write an HTML page",
            status="0 when every program loads, 1 when some fail, 2 when something cannot be read or written",
        ),
    )
    command.add_argument("objects", metavar="OBJECT", type=Path, nargs="*", help="BPF object")
    command.add_argument("--kernels", metavar="ARCHIVE", help="BTF archive, a folder or URL (default: BTFHUB_ARCHIVE)")
    match = command.add_argument(
        "--match", metavar="PATTERN", action="append", help="distro/version/arch/release, or host (default: all of it)"
    )
    offer(match, [HOST])
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--html", metavar="FILE", type=Path, help="also write the report as an HTML page")
    add_alternatives_options(command)
    command.set_defaults(command=_check, error_status=2)


def _check(options: argparse.Namespace) -> int:
    from hatch_bpf.portability.text import render_json, render_text

    with meter() as shown:
        context = Context(say, shown)
        report = _check_objects(options, context) if options.objects else _check_project(options, context)
    here = console(sys.stdout)
    if options.html:
        write_page(options.html, report, of_project=not options.objects)
    if options.json:
        print(render_json(report), end="")
    elif here is not None:
        from hatch_bpf.cli.tables import show_report

        show_report(here, report)
    else:
        width = shutil.get_terminal_size((100, 24)).columns
        print(render_text(report, width=width, colour=colours(sys.stdout)), end="")
    return report.exit_status


def _check_project(options: argparse.Namespace, context: Context) -> Report:
    from hatch_bpf import pipeline
    from hatch_bpf.project.declared_kernels import find_kernels

    if options.alternatives or options.optional:
        raise ConfigError([Fault("--alternatives and --optional", "are for an OBJECT: a project has options for them")])
    project = load_project(Path.cwd())
    if not options.kernels and not options.match:
        return pipeline.check(project, context)
    config = project.config
    if options.kernels:
        config = replace(config, btf_archive=_archive(options.kernels))
    if options.match:
        config = replace(config, kernels=entries_of(options.match))
    # without the lock, which covers only the project's own kernels
    return pipeline.check(project, context, matrix=find_kernels(config, context.notify))


def _archive(option: str | None) -> Archive | None:
    """The archive that `--kernels` names, even if the patterns turn out to need none."""
    archive = named_archive(option)
    if option and isinstance(archive, Path) and not archive.is_dir():
        raise KernelError("is not a folder: let --kernels name a BTF archive, a folder or URL", source=archive)
    return archive


def _check_objects(options: argparse.Namespace, context: Context) -> Report:
    from hatch_bpf import pipeline
    from hatch_bpf.arch import ARCHES
    from hatch_bpf.project.config import parse_config

    # an object does not tell which architecture it was compiled for
    table = {"archs": list(ARCHES), **alternatives_table(options)}
    config = parse_config(table, key="check", root=Path.cwd(), environ={})
    objects = [read_object_file(path) for path in options.objects]
    archive = _archive(options.kernels)
    if archive is None and not options.match:
        raise KernelError(
            "which kernels? Let --kernels (or the environment's BTFHUB_ARCHIVE) name an archive, a folder or URL, or "
            "say --match host for the running one"
        )
    matrix = kernels_of(archive, options.match, context.notify)
    return pipeline.check_objects(objects, config, matrix, context)
