"""The text of a guest's console -> what happened to each program, the command's output, and what went wrong.

Input: the console's text and the mark that precedes the guest's own lines. Output: a `Told`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hatch_bpf.portability.trial import Attempt, CommandTrial, Happened, Way, shown_end
from hatch_bpf.runtime.printable import printable

DONE = '{"done": true'
"""How a guest's last record begins."""
LAST_LINES = 30
UNFINISHED = "the guest ended before it was through"
"""What is wrong with a command that had begun when its guest ended."""
_OUT_OF_MEMORY = re.compile(
    r"Out of memory|oom-kill|deadlocked on memory|Initramfs unpacking failed: write error|Cannot allocate memory"
)
_MORE_THAN_HERE = "cannot set up guest memory"
"""What qemu says if this machine lacks the memory for a guest."""
_LESS_THAN_INITRAMFS = "initrd is too large"
"""What it says if the guest lacks the memory for its files."""
_NO_INITRAMFS = re.compile(
    r"VFS: Cannot open root device|Unable to mount root fs|No working init found|too old to load a ram disk"
)
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")


@dataclass(frozen=True)
class Told:
    """What a guest reported."""

    is_up: bool
    is_done: bool
    release: str
    """`uname -r` there."""
    attempts: Mapping[tuple[str, str], Mapping[Way, Attempt]]
    """By object and program."""
    pending: tuple[str, str] | None
    """The program that was being loaded when the guest ended."""
    command: CommandTrial | None
    is_out_of_memory: bool


def read_console(text: str, mark: str, command: Sequence[str]) -> Told:
    """Read what a guest's first process wrote."""
    attempts: dict[tuple[str, str], dict[Way, Attempt]] = {}
    pending = None
    first: Mapping[str, Any] = {}
    last: Mapping[str, Any] = {}
    for record in _records(text, mark):
        if record.get("up"):
            first = record
        elif record.get("done"):
            last = record
        elif "program" in record:
            program = record["object"], record["program"]
            of_program = attempts.setdefault(program, {})
            pending = program if record.get("begins") else None
            happened = Happened(record.get("happened", Happened.LOST.value))
            of_program[Way(record["way"])] = Attempt(happened, record.get("errno", ""), record.get("log", ""))
    return Told(
        is_up=bool(first),
        is_done=bool(last),
        release=first.get("release", ""),
        attempts=attempts,
        pending=pending,
        command=_command(text, mark, tuple(command)),
        is_out_of_memory=bool(
            last.get("oom")
            or (not last and _OUT_OF_MEMORY.search(text))
            or (not first and _LESS_THAN_INITRAMFS in text)
        ),
    )


def fault_of(told: Told, text: str, *, stopped: str, megabytes: int) -> str:
    """What went wrong with a guest as a whole; empty if it ran to its end."""
    if not told.is_up and _MORE_THAN_HERE in text:
        return f"this machine has no {megabytes} MB left for the guest: lower --memory or --jobs"
    if told.is_out_of_memory:
        return f"the guest ran out of its {megabytes} MB of memory: give it more with --memory"
    if told.is_done:
        return ""
    where = "in its work" if told.is_up else "in its boot"
    if told.pending:
        where = f"while it loaded {told.pending[1]} of {told.pending[0]}"
    elif told.command and told.command.fault == UNFINISHED:
        where = f"while {printable(told.command.line)} ran"
    panic = _PANIC.search(text)
    if not told.is_up and _NO_INITRAMFS.search(text):
        return (
            "the kernel found no root file system: it does not take an initramfs (CONFIG_BLK_DEV_INITRD), or lacks "
            "memory to unpack it (--memory)"
        )
    if panic:
        return f"the kernel panicked {where}: {printable(panic[1].strip())}"
    if stopped:
        return f"the guest was stopped {where}: {stopped}"
    if not text.strip():
        return "the image did not boot: qemu ended, and the kernel said nothing"
    return f"the guest ended {where}"


def last_lines(text: str) -> str:
    """The end of what a console said."""
    return shown_end("\n".join(line.rstrip() for line in text.splitlines() if line.strip()), LAST_LINES)


def _records(text: str, mark: str) -> Iterator[Mapping[str, Any]]:
    for line in text.splitlines():
        _, marked, rest = line.partition(mark)
        if marked:
            try:
                yield json.loads(rest)
            except ValueError:
                continue  # the kernel has written into the line


def _command(text: str, mark: str, argv: tuple[str, ...]) -> CommandTrial | None:
    if not argv:
        return None
    _, began, rest = text.partition(f'{mark}{{"command": "begins"}}\n')
    if not began:
        return CommandTrial(argv, None, "", "the guest ended before it began")
    output, ended, after = rest.partition(f"\n{mark}")
    record = next(_records(mark + after, mark), {}) if ended else {}
    if record.get("command") == "not started":
        why = f"{argv[0]} is not in the guest, or cannot run there: {record['error']}"
        return CommandTrial(argv, None, output, why)
    status = record.get("status")
    return CommandTrial(argv, status, output, "" if status is not None else UNFINISHED)
