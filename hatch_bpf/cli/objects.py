"""The commands for one BPF object: `hatch-bpf inspect` and `hatch-bpf skeleton`.

Input: a command line. Output: an exit status: 0 for success, 1 for failure.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hatch_bpf.arch import ARCHES
from hatch_bpf.cli.common import (
    add_alternatives_options,
    alternatives_table,
    examples,
    offer,
    read_object_file,
    written_files,
)
from hatch_bpf.cli.terminal import console
from hatch_bpf.errors import OutputError


def add_inspect(commands: Any) -> None:
    """Add `inspect` to the commands of an argument parser."""
    command = commands.add_parser(
        "inspect",
        help="show an object's programs, maps, globals, helpers, and CO-RE relocations with their source lines",
        **examples("inspect src/my_tool/_bpf/x86_64/prog.bpf.o", "inspect prog.bpf.o --json"),
    )
    command.add_argument("object", metavar="OBJECT", type=Path, help="BPF object")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=_inspect)


def add_skeleton(commands: Any) -> None:
    """Add `skeleton` to the commands of an argument parser."""
    command = commands.add_parser(
        "skeleton",
        help="generate a skeleton, with the runtime it needs, for an existing object",
        description="Write NAME_skel.py and a folder _bpf with the object and the runtime, ready to be imported.",
        **examples("skeleton prog.bpf.o --out src/my_tool --event events=event"),
    )
    command.add_argument("object", metavar="OBJECT", type=Path, help="BPF object")
    command.add_argument("--out", metavar="FOLDER", type=Path, default=Path(), help="package to write to (default: .)")
    arch = command.add_argument("--arch", help="architecture the object was compiled for (default: this machine's)")
    offer(arch, ARCHES)
    command.add_argument(
        "--event", metavar="MAP=STRUCT", action="append", default=[], help="what a ring or perf buffer carries"
    )
    command.add_argument("--type", metavar="TYPE", action="append", default=[], help="also declare this type")
    add_alternatives_options(command)
    command.set_defaults(command=_skeleton)


def _inspect(options: argparse.Namespace) -> int:
    from hatch_bpf.cli.inspection import inspect, render

    document = inspect(read_object_file(options.object))
    if options.json:
        print(json.dumps(document, indent=2))
    elif (here := console(sys.stdout)) is not None:
        from hatch_bpf.cli.tables import show_inspection

        show_inspection(here, document)
    else:
        print(render(document), end="")
    return 0


def _skeleton(options: argparse.Namespace) -> int:
    from hatch_bpf import pipeline
    from hatch_bpf.project.config import parse_config
    from hatch_bpf.wheel import source_tree
    from hatch_bpf.wheel.contents import KERNELS_NAME

    model = read_object_file(options.object)
    table = {
        "archs": [options.arch] if options.arch else [],
        "events": dict(event.partition("=")[::2] for event in options.event),
        "types": options.type,
        **alternatives_table(options),
    }
    config = parse_config(table, key="skeleton", root=Path.cwd(), environ={})
    files = pipeline.skeleton(model, config)
    for file in files:  # skeletons that a build put there hold the sha256 of this file
        there = options.out / file.tree_path
        if file.tree_path.name == KERNELS_NAME and there.is_file() and there.read_bytes() != file.data:
            raise OutputError(f"{there.parent} is what a build made, for its kernels: name another folder by --out")
    written = {file.tree_path: file.data for file in files}
    source_tree.write(written, root=options.out.absolute(), folders=())
    print(written_files(files, options.out))
    return 0
