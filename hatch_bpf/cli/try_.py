"""The command `hatch-bpf try`: boot kernels, and see what really happens to the project's programs there.

Input: a command line. Output: an exit status: 0 when all that has to work does, and every verdict is right; 1 when not;
2 when it cannot be tried.
"""

from __future__ import annotations

import argparse
import itertools
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_bpf.cli.common import examples, load_project, say, write_page
from hatch_bpf.cli.terminal import meter
from hatch_bpf.support.context import Context

if TYPE_CHECKING:  # each command imports what it needs, so that --help stays quick
    from hatch_bpf.portability.trial import Trial
    from hatch_bpf.portability.verdicts import Report


def add_try(commands: Any) -> None:
    """Add `try` to the commands of an argument parser."""
    command = commands.add_parser(
        "try",
        help="boot the matrix's kernels under qemu, load every program there, and compare with the verdicts",
        description="Boot each kernel of the matrix that has an image (`hatch-bpf kernels add --image`), with this "
        "Python and the project's wheel; load every program alone, with the kernel's own BTF and with it hidden; "
        "then run COMMAND.",
        **examples(
            "try                            every kernel with an image, and the project's tests",
            "try 'debian/12/*/*'            some of them",
            "try -- my-tool --once          another command than pytest",
            "try --junit try.xml",
            status="0 when all that has to work does and every verdict is right; 1 when not; 2 when it cannot be tried",
        ),
    )
    command.add_argument("patterns", metavar="PATTERN", nargs="*", help="distro/version/arch/release (default: all)")
    command.add_argument(
        "--images", metavar="FOLDER", type=Path, help="archive that has the images (default: where the BTF is)"
    )
    command.add_argument(
        "--root",
        metavar="TAR",
        type=Path,
        help="root file system with Python and libbpf for the guests of its architecture",
    )
    command.add_argument("--wheel", metavar="FILE", type=Path, help="try this wheel, instead of building one")
    command.add_argument("--memory", metavar="MB", type=_count, default=512, help="memory of a guest (default: 512)")
    command.add_argument("--jobs", metavar="N", type=_count, help="guests at a time (default: as many as fit)")
    command.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=600, help="for one kernel (default: 600)"
    )
    command.add_argument(
        "--append",
        metavar="PARAMETERS",
        default="",
        help="more of the kernel's command line, such as lsm=capability,bpf for LSM programs to run",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--junit", metavar="FILE", type=Path, help="also write a test report as JUnit's XML")
    command.add_argument("--html", metavar="FILE", type=Path, help="also write the report as an HTML page")
    command.set_defaults(command=_try, error_status=2, takes_command=True)


def _count(text: str) -> int:
    with suppress(ValueError):
        if int(text) > 0:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


def _try(options: argparse.Namespace) -> int:
    from hatch_bpf.portability.trial_report import render_junit, render_trial, render_trial_json
    from hatch_bpf.support.files import write_whole

    report, trial = _trial(options)
    if options.html:
        write_page(options.html, report, of_project=True, trial=trial)
    if options.junit:
        write_whole(options.junit, render_junit(trial).encode())
    print(render_trial_json(trial) if options.json else render_trial(trial), end="")
    sys.stdout.flush()
    return trial.exit_status


def _trial(options: argparse.Namespace) -> tuple[Report, Trial]:
    from hatch_bpf import pipeline
    from hatch_bpf.lab.other_root import read_root
    from hatch_bpf.lab.payload import guest_archs, make_payloads
    from hatch_bpf.lab.schedule import guests_at_a_time
    from hatch_bpf.lab.selection import narrow, select
    from hatch_bpf.lab.trying import try_kernels
    from hatch_bpf.portability.trial import Trial
    from hatch_bpf.project.declared_kernels import find_kernels

    project = load_project(Path.cwd())
    matrix = find_kernels(project.config, say, lock=project.lock)
    matrix = narrow(matrix, options.patterns)
    given = read_root(options.root) if options.root else None
    selection = select(matrix, options.images, guest_archs(given))
    with meter() as shown:
        context = Context(say, shown)
        report = pipeline.check(project, context, matrix=matrix)
        archs = sorted({kernel.arch for kernel in selection.images})
        payloads = make_payloads(project, archs, given, wheel=options.wheel, command=options.guest_command)
        numbers = itertools.count(1)
        with _terminated_as_interrupted():
            trials = try_kernels(
                report.kernels,
                selection,
                payloads,
                jobs=options.jobs or guests_at_a_time(options.memory),
                megabytes=options.memory,
                seconds=options.timeout,
                parameters=options.append.split(),
                done=lambda trial: shown.step("trying", next(numbers), len(selection.images), trial.kernel),
            )
    return report, Trial(trials, selection.left_out)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM, with which a CI cancels, clean up as Ctrl-C does. Processes that the block forks inherit it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
