"""What a step of the lab is: files for a guest, commands that run there, and a judge of what they print.

Input: nothing. Output: the types that tests/lab/steps/ and tests/lab/project.py share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hatch_bpf.kernels.identity import Kernel


@dataclass(frozen=True)
class Booted:
    """A kernel of the lab, and what is known of it outside."""

    kernel: Kernel
    btf: bytes
    config: str
    """The file of its configuration."""

    @property
    def hz(self) -> int:
        return next(int(line.split("=")[1]) for line in self.config.splitlines() if line.startswith("CONFIG_HZ="))

    def has(self, option: str) -> bool:
        """Whether an option is y in its configuration."""
        return f"{option}=y" in self.config.splitlines()


@dataclass(frozen=True)
class Command:
    """A command of a step."""

    name: str
    argv: tuple[str, ...]
    hidden: bool = False
    """Whether /sys/kernel/btf is empty; the kernel itself still has its BTF, unlike one that was built without."""
    locked_down: bool = False
    """Whether the kernel is locked down first, which cannot be undone."""
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: int = 300
    """When it is killed; emulated, Python and the verifier are slow."""


@dataclass(frozen=True)
class Output:
    """What a command printed."""

    text: str
    status: object
    """Its exit status, or why there is none."""
    seconds: float

    def records(self) -> list[dict[str, Any]]:
        """The lines that are JSON objects."""
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]


class Step(Protocol):
    """One thing that the lab does on every kernel. It is made once for an architecture."""

    def install(self, folder: Path, booted: Booted, /) -> None:
        """Put the files that it needs in a guest into the folder where its commands start."""

    def commands(self, booted: Booted, /) -> tuple[Command, ...]:
        """What to run there, in this order."""

    def judge(self, booted: Booted, command: Command, output: Output, /) -> Iterator[str]:
        """A line for what is worth knowing, and one that starts with WRONG for each thing that is not as it must be."""


def both_ways(name: str, *argv: str, **options: Any) -> tuple[Command, ...]:
    """A command with the kernel's own BTF, and the same with that hidden."""
    return (Command(name, argv, **options), Command(f"{name}, BTF hidden", argv, hidden=True, **options))
