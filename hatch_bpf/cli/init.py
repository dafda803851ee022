"""The command `hatch-bpf init`: a new package to start from.

Input: a command line. Output: an exit status: 0 for success, 1 for failure.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from hatch_bpf.cli.common import examples, say


def add_init(commands: Any) -> None:
    """Add `init` to the commands of an argument parser."""
    command = commands.add_parser(
        "init",
        help="make a new package with a BPF program in it",
        description="Make a new package that builds, runs and passes its own test, to start from.",
        **examples("init my-tool", "init my-tool tools/my-tool --backend setuptools --ci github"),
    )
    command.add_argument("name", metavar="NAME", help="name of the project")
    command.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, help="where to make it (default: NAME)")
    command.add_argument("--backend", choices=("hatchling", "setuptools"), default="hatchling", help="build system")
    command.add_argument(
        "--ci", choices=("github",), default="", help="also write a job that builds, checks, tries and publishes"
    )
    command.set_defaults(command=_init)


def _init(options: argparse.Namespace) -> int:
    from hatch_bpf.cli.scaffold import create

    folder: Path = options.folder or Path(options.name)
    for path in create(options.name, folder=folder, backend=options.backend, ci=options.ci):
        print(folder / path)
    # without a slash pip would install the project of that name from PyPI
    where = shlex.quote(str(folder) if folder.is_absolute() or folder == Path() else f"./{folder}")
    say(f'next: pip install {where}, then sudo "$(command -v {options.name})"; see {folder / "README.md"}')
    return 0
