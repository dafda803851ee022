"""What a kernel really did with programs, beside the verdicts: `Trial` > `KernelTrial` > `ProgramTrial` > `Attempt`.

Input: a `Report`'s verdicts, and what `hatch_bpf/lab/` saw in guests. Output: the types that it fills in, and whether
verdict and kernel agree.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict
from hatch_bpf.runtime.printable import printable


class Happened(Enum):
    """What a kernel did with a program."""

    ATTACHES = "attaches"
    """It loads, and could be attached."""
    LOADS = "loads"
    """It loads. Attaching was not tried: it needs a device, a socket or a process, or could stop the guest."""
    ATTACH_REFUSED = "attach-refused"
    """It loads, and could not be attached."""
    REFUSED = "refused"
    """libbpf or the kernel did not load it."""
    LOST = "lost"
    """The guest was gone before it said."""


class Way(Enum):
    """Which BTF programs are relocated against."""

    OWN = "own"
    """The kernel's own."""
    HIDDEN = "hidden"
    """The minimized one of the wheel, with the kernel's own out of sight."""


@dataclass(frozen=True)
class Attempt:
    """One program on one kernel, once."""

    happened: Happened
    error: str = ""
    """Name of the error, such as EINVAL."""
    log: str = ""
    """What libbpf said of it, the verifier's log included."""

    @property
    def works(self) -> bool:
        return self.happened in (Happened.ATTACHES, Happened.LOADS)


_ATTACH_UNSURE = {ReasonKind.ATTACH_TARGET_UNKNOWN, ReasonKind.KSYM_UNKNOWN}
"""Reasons that already say that the attach may fail."""


LINE_CHARS = 400
"""Characters that are shown of a line."""


_LOAD_UNSURE = {
    ReasonKind.ATTACH_TARGET_UNKNOWN: re.compile(
        r"failed to find kernel BTF type ID of|\w is not sleepable|\(\) is not modifiable"
    ),
    ReasonKind.KCONFIG_UNKNOWN: re.compile("failed to open system Kconfig"),
}
"""Reasons that already say that the load may fail, and what libbpf or the verifier says if it fails for that: a guest
lacks modules and may lack the kernel's configuration, and BTF does not say which functions may sleep."""


@dataclass(frozen=True)
class ProgramTrial:
    """A program on a kernel: its verdict, and what happened."""

    said: ProgramVerdict
    attempts: Mapping[Way, Attempt]
    has_config: bool = False
    """Whether the guest had the kernel's configuration."""

    @property
    def lacks_config(self) -> bool:
        """Whether it was refused because its guest had no configuration."""
        return any(self._refused_for(ReasonKind.KCONFIG_UNKNOWN, attempt) for attempt in self.attempts.values())

    @property
    def disagreements(self) -> tuple[Way, ...]:
        """The ways in which the kernel did not do what the verdict says."""
        return tuple(way for way, attempt in self.attempts.items() if not self._agrees(way, attempt))

    @property
    def breaks(self) -> bool:
        """Whether it did not work where it had to, or a verdict is wrong."""
        if self.disagreements:
            return True
        needed = not self.said.is_optional and not self.said.stand_in
        return needed and any(self.fell_short(way) for way in self.attempts)

    def fell_short(self, way: Way) -> bool:
        """Whether a program that need not be left out had to work with this BTF, and did not."""
        match self.said.verdict:
            case Verdict.CONDITIONAL:
                return False
            case Verdict.CANNOT_ATTACH:
                return True  # also where the attach was not tried
            case Verdict.NEEDS_KERNEL_BTF if way is Way.HIDDEN:
                return False
            case _:
                return not self.attempts[way].works

    def _agrees(self, way: Way, attempt: Attempt) -> bool:
        said = self.said
        kinds = {reason.kind for reason in said.reasons}
        if attempt.happened is Happened.LOST:
            return True  # the guest's end is reported by itself
        if attempt.happened is Happened.ATTACH_REFUSED and not said.verdict.is_failure:
            return said.verdict is Verdict.CONDITIONAL or bool(kinds & _ATTACH_UNSURE)
        if any(self._refused_for(kind, attempt) for kind in _LOAD_UNSURE):
            return True
        match said.verdict:
            case Verdict.LOADS:
                return attempt.works
            case Verdict.NEEDS_KERNEL_BTF:
                if way is Way.OWN:
                    return attempt.works
                # with a wrong type id a program loads, and misleads
                return not attempt.works or ReasonKind.KERNEL_BTF not in kinds
            case Verdict.CONDITIONAL:
                return True
            case Verdict.CANNOT_ATTACH:
                return attempt.happened in (Happened.LOADS, Happened.ATTACH_REFUSED) or (
                    attempt.happened is Happened.REFUSED and self._may_not_load(way)
                )
            case Verdict.FAILS:
                return attempt.happened is Happened.REFUSED

    def _may_not_load(self, way: Way) -> bool:
        """Whether the load of a program that cannot be attached depends on something else as well."""
        needs_btf = self.said.at_load is Verdict.NEEDS_KERNEL_BTF
        return self.said.at_load is Verdict.CONDITIONAL or (needs_btf and way is Way.HIDDEN)

    def _refused_for(self, kind: ReasonKind, attempt: Attempt) -> bool:
        """Whether it was not loaded for a reason that the verdict has, and that holds in this guest."""
        if kind not in {reason.kind for reason in self.said.reasons}:
            return False
        if kind is ReasonKind.KCONFIG_UNKNOWN and self.has_config:
            return False
        return attempt.happened is Happened.REFUSED and bool(_LOAD_UNSURE[kind].search(attempt.log))


@dataclass(frozen=True)
class CommandTrial:
    """The command that ran in a guest."""

    argv: tuple[str, ...]
    status: int | None
    """None if it did not end, or did not start."""
    output: str
    fault: str = ""
    """Why it did not start or end."""

    @property
    def line(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(self.argv)


@dataclass(frozen=True)
class KernelTrial:
    """What happened on one kernel."""

    kernel: Kernel
    accelerator: str
    """`kvm` or `tcg`."""
    seconds: float
    programs: tuple[ProgramTrial, ...]
    command: CommandTrial | None
    fault: str = ""
    """What went wrong with the guest as a whole; empty if it ran to its end."""
    last_lines: str = ""
    """What its console said last, if something went wrong."""

    @property
    def fails(self) -> bool:
        command_fails = self.command is not None and self.command.status != 0
        return bool(self.fault) or command_fails or any(program.breaks for program in self.programs)


@dataclass(frozen=True)
class Trial:
    """A project's programs on kernels."""

    kernels: tuple[KernelTrial, ...]
    not_tried: Mapping[Kernel, str]
    """Kernels of the matrix that were not booted, and why."""

    @property
    def exit_status(self) -> int:
        """1 if something failed that has to work, or a verdict is wrong."""
        return int(any(kernel.fails for kernel in self.kernels))


def shown_end(text: str, most: int) -> str:
    """The last lines of a log or an output, `most` at most, for a terminal: long ones cut, and nothing but text."""
    lines = (line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}..." for line in text.splitlines()[-most:])
    return printable("\n".join(lines), keep="\n\t")


def signal_name(number: int) -> str:
    """`SIGKILL`; a number that has no name as it is."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
