"""The command `hatch-bpf`: the pipeline, and each stage on its own.

Input: a command line. Output: an exit status: 0 for success, 1 for failure, 2 for a wrong command line (with `check`,
where 1 is a verdict, also for wrong input), 130 if interrupted, 141 if the reader of the output has gone.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hatch_bpf import __version__
from hatch_bpf.cli.btf import add_min_core_btf, add_vmlinux_h
from hatch_bpf.cli.build import add_build, add_compile_commands
from hatch_bpf.cli.cache import add_cache
from hatch_bpf.cli.check import add_check
from hatch_bpf.cli.common import CommandParser, examples
from hatch_bpf.cli.completion import add_completion
from hatch_bpf.cli.init import add_init
from hatch_bpf.cli.kernels import add_kernels
from hatch_bpf.cli.objects import add_inspect, add_skeleton
from hatch_bpf.cli.try_ import add_try
from hatch_bpf.errors import HatchBpfError
from hatch_bpf.support.files import disk_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the caller closed it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):  # names in objects may not be text
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        with _output_errors(), disk_errors():
            status = command(options)
            sys.stdout.flush()
            return status
    except BrokenPipeError:
        return 141  # the status that a shell gives a program killed by SIGPIPE
    except HatchBpfError as error:
        print(f"hatch-bpf: {error}", file=sys.stderr)
        return int(options.error_status)
    except KeyboardInterrupt:
        print("hatch-bpf: interrupted", file=sys.stderr)
        return 130


@contextmanager
def _output_errors() -> Iterator[None]:
    """If standard output cannot be written, drop what is buffered: Python would fail on it again as it exits."""
    try:
        yield
    except (OSError, HatchBpfError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="hatch-bpf",
        description="Compile and bundle portable BPF programs into Python packages.",
        **examples(
            "init my-tool                                  a new package to start from",
            "build                                         write the skeletons beside the program sources",
            "check                                         predict whether this project's programs load on its kernels",
            "check prog.bpf.o --kernels archive --match 'debian/12/*/*'",
            "try -- my-tool --once                         boot the kernels, load the programs, run a command there",
            "kernels lock                                  from now on accept only the BTF of today",
            "min-core-btf host minimized.btf prog.bpf.o    what `bpftool gen min_core_btf` makes",
            "vmlinux-h host --prune prog.bpf.c -o vmlinux.h",
            status="0 success; 1 failure; 2 wrong command line, or with check, input that cannot be read; "
            "130 interrupted",
        ),
    )
    parser.add_argument("--version", action="version", version=f"hatch-bpf {__version__}")
    parser.set_defaults(error_status=1)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    # in alphabetical order, for --help
    add_build(commands)
    add_cache(commands)
    add_check(commands)
    add_compile_commands(commands)
    add_completion(commands, parser)
    add_init(commands)
    add_inspect(commands)
    add_kernels(commands)
    add_min_core_btf(commands)
    add_skeleton(commands)
    add_try(commands)
    add_vmlinux_h(commands)
    return parser
