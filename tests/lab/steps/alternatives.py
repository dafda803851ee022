"""Alternatives on real kernels: which member is chosen, and whether it sees what it should.

The programs are tests/lab/programs/unlinks.bpf.c, in the wheel that `hatch-bpf try` puts into the guest.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from hatch_bpf.kernels.identity import natural
from tests.lab.project import IN_GUEST
from tests.lab.step import Booted, Command, Output, both_ways

SCRIPT = IN_GUEST / "unlinks.py"


class Alternatives:
    """The step."""

    def install(self, folder: Path, _booted: Booted) -> None:
        shutil.copyfile(SCRIPT, folder / SCRIPT.name)

    def commands(self, _booted: Booted) -> tuple[Command, ...]:
        return both_ways("alternatives", "python3", SCRIPT.name)

    def judge(self, booted: Booted, command: Command, output: Output) -> Iterator[str]:
        # libbpf and the kernel need the kernel's own BTF for fentry; arm64 has no ftrace direct calls before Linux 6.4
        has_fentry = booted.kernel.arch != "arm64" or natural(booted.kernel.release) >= natural("6.4")
        wanted = "works, by_fentry" if has_fentry and not command.hidden else "works, by_kprobe"
        (record,) = output.records() or [{"step": "nothing printed"}]
        yield record["step"] if record["step"] == wanted else f"WRONG, it should be: {wanted}; {record}"
