"""The command `hatch-bpf`: the pipeline, and each stage by itself.

Input: a command line. Output: an exit status: 0 for success, 1 for failure, 2 for a command line (and for `check`, where
1 is a verdict, any input) that cannot be used, 130 when interrupted. Each command is a function from options to status.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_bpf import __version__
from hatch_bpf.errors import ConfigError, Fault, HatchBpfError, ObjectError

if TYPE_CHECKING:  # each command imports what it needs, so that --help stays quick
    from hatch_bpf.bpf_object import ObjectModel

EXAMPLES = """examples:
  hatch-bpf build                                         write the skeletons beside the program sources
  hatch-bpf min-core-btf host minimized.btf prog.bpf.o    what `bpftool gen min_core_btf` makes
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status."""
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except HatchBpfError as error:
        print(f"hatch-bpf: {error}", file=sys.stderr)
        return int(options.error_status)
    except KeyboardInterrupt:
        print("hatch-bpf: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hatch-bpf",
        description="Compile and bundle portable BPF programs into Python packages.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hatch-bpf {__version__}")
    parser.set_defaults(error_status=1)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "build", help="compile a project's programs and write skeletons, objects and BTFs beside their sources"
    )
    command.add_argument("project", nargs="?", type=Path, default=Path(), help="folder of pyproject.toml (default: .)")
    command.set_defaults(command=_build)

    command = commands.add_parser(
        "min-core-btf",
        help="minimize a kernel's BTF for BPF objects",
        description="Write the part of a kernel's BTF that the CO-RE relocations of BPF objects need. "
        "The arguments are in the order of `bpftool gen min_core_btf`.",
    )
    command.add_argument("kernel", metavar="KERNEL", help="raw BTF, vmlinux, vmlinuz, .btf.tar.xz, or host")
    command.add_argument("out", metavar="OUT", type=Path, help="file to write")
    command.add_argument("objects", metavar="OBJECT", type=Path, nargs="+", help="BPF object")
    command.set_defaults(command=_min_core_btf)
    return parser


def _build(options: argparse.Namespace) -> int:
    from hatch_bpf import tree
    from hatch_bpf.hatch_plugin import KEY, load_project
    from hatch_bpf.pipeline import build

    root = options.project.absolute()
    if not (root / "pyproject.toml").is_file():
        raise ConfigError([Fault(str(root / "pyproject.toml"), "is not there: name the folder of a project")])
    project = load_project(root)
    if project is None:
        raise ConfigError([Fault(KEY, f"is not in {root / 'pyproject.toml'}: add the table to switch hatch-bpf on")])
    artifacts = build(project, notify=_say)
    tree.write(artifacts, root=project.root)
    for file in artifacts.files:
        print(file.tree_path)
    return 0


def _min_core_btf(options: argparse.Namespace) -> int:
    from hatch_bpf.btf.reader import Btf
    from hatch_bpf.files import write_whole
    from hatch_bpf.kernels.sources import HOST_BTF, read_btf
    from hatch_bpf.min_core_btf import minimize

    objects = [_read_object(path) for path in options.objects]
    path = HOST_BTF if options.kernel == "host" else Path(options.kernel)
    minimized = minimize(objects, Btf(read_btf(path), source=str(path)))
    write_whole(options.out, minimized)
    return 0


def _read_object(path: Path) -> ObjectModel:
    from hatch_bpf.bpf_object import read_object

    try:
        return read_object(path.read_bytes(), path=str(path))
    except OSError as error:
        raise ObjectError(f"{path} cannot be read: {error.strerror}") from error


def _say(text: str) -> None:
    print(f"hatch-bpf: {text}", file=sys.stderr, flush=True)
