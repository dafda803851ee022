"""The commands that compile a project's programs: `hatch-bpf build` and `hatch-bpf compile-commands`.

Input: a command line. Output: an exit status: 0 for success, 1 for failure.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hatch_bpf.cli.common import examples, load_project, say, written_files
from hatch_bpf.cli.terminal import meter, shows_progress
from hatch_bpf.support.context import Context
from hatch_bpf.support.progress import PacedLines


def add_build(commands: Any) -> None:
    """Add `build` to the commands of an argument parser."""
    command = commands.add_parser(
        "build",
        help="compile a project's programs and write skeletons, objects and BTFs beside their sources",
        **examples(
            "build                          what is written is what the wheel would carry, to commit or to run from",
            "build ../my-tool               of the project in another folder",
        ),
    )
    command.add_argument("project", nargs="?", type=Path, default=Path(), help="folder of pyproject.toml (default: .)")
    command.set_defaults(command=_build)


def add_compile_commands(commands: Any) -> None:
    """Add `compile-commands` to the commands of an argument parser."""
    command = commands.add_parser(
        "compile-commands",
        help="write compile_commands.json, from which editors learn how programs are compiled",
        description="Write how clang compiles a project's programs, for clangd and other tools.",
        **examples("compile-commands"),
    )
    command.add_argument("project", nargs="?", type=Path, default=Path(), help="folder of pyproject.toml (default: .)")
    command.set_defaults(command=_compile_commands)


def _build(options: argparse.Namespace) -> int:
    from hatch_bpf import pipeline
    from hatch_bpf.wheel import source_tree

    project = load_project(options.project.absolute())
    with meter() as shown:
        context = Context(say, shown if shows_progress() else PacedLines(say))
        artifacts = pipeline.build(project, context, use_shipped=False)
    source_tree.write_to_tree(artifacts, project)
    print(written_files(artifacts.files))
    return 0


def _compile_commands(options: argparse.Namespace) -> int:
    from hatch_bpf.compiler.clang import compile_commands
    from hatch_bpf.support.files import write_whole

    project = load_project(options.project.absolute())
    path = project.root / "compile_commands.json"
    write_whole(path, compile_commands(project, Context(say)))
    print(path)
    return 0
