"""Every error of the build side: one base class, and one subclass for each stage.

`PortabilityError` lives beside the report that it carries, in `portability/verdicts.py`.
A message says three things: what is wrong, where (the file, the key or the kernel), and what to do about it.
The runtime that ships in wheels stands alone and has its own base class in `runtime/errors.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from hatch_bpf.runtime.printable import printable


class HatchBpfError(Exception):
    """Base of everything hatch-bpf raises on purpose; front ends print it and exit, with no traceback."""

    def __init__(self, message: str, *, source: str | Path = "") -> None:
        """`source` is the file, folder or URL at fault; the message begins with it."""
        self.source = str(source)
        super().__init__(f"{printable(self.source)}: {message}" if self.source else message)

    def __str__(self) -> str:
        """The message; names in it that came out of a file cannot do anything to a terminal."""
        return printable(super().__str__(), keep="\n\t")


class Fault(NamedTuple):
    """One thing wrong in the configuration: the key's full path (`tool.hatch-bpf.kernels[2].arch`) and the rule."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key} {self.message}"


class ConfigError(HatchBpfError):
    """The configuration table breaks its schema; carries all the faults at once."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def refuse(faults: Iterable[Fault]) -> None:
    """Raise `ConfigError` if there are any."""
    found = tuple(faults)
    if found:
        raise ConfigError(found)


class ToolchainError(HatchBpfError):
    """A tool or header that the build needs is missing or too old."""


class CompileError(HatchBpfError):
    """clang refused a program source; `stderr` holds its own lines."""

    def __init__(self, source: str, stderr: str, *, archs: Sequence[str]) -> None:
        super().__init__(f"{source} does not compile for {', '.join(archs)}:\n{stderr.rstrip()}")
        self.source = source
        self.stderr = stderr
        self.archs = tuple(archs)

    @classmethod
    def of_several(cls, errors: Sequence[CompileError]) -> CompileError:
        """One error that says what is wrong with every source; once for all architectures that have it in common."""
        archs: dict[tuple[str, str], list[str]] = {}
        for error in errors:
            archs.setdefault((error.source, error.stderr), []).extend(error.archs)
        joined = [cls(source, stderr, archs=names) for (source, stderr), names in archs.items()]
        joined[0].args = ("\n".join(map(str, joined)),)
        return joined[0]


class LinkError(HatchBpfError):
    """libbpf's linker refused to make one object of several."""


class BtfError(HatchBpfError):
    """Bytes that should be BTF or .BTF.ext are not, or break the format's rules."""


class ObjectError(HatchBpfError):
    """A file that should be a BPF object is not, or holds something that hatch-bpf cannot use."""


class KernelError(HatchBpfError):
    """A kernel of the matrix cannot be read, or the archive that should hold it cannot."""

    def __init__(self, message: str, *, source: str | Path = "", kernel: object = "") -> None:
        """`kernel` is the one at fault, as `distro/version/arch/release`; empty if it concerns more or none."""
        self.kernel = str(kernel)
        super().__init__(message, source=source)


class RelocationError(HatchBpfError):
    """A CO-RE relocation record is malformed, or matches a kernel in more than one way."""


class MinimizeError(HatchBpfError):
    """A minimized BTF could not be made."""


class SkeletonError(HatchBpfError):
    """A skeleton cannot be generated from an object: names that clash, layouts that differ between architectures."""


class OutputError(HatchBpfError):
    """What was made cannot be put where it belongs: a file is in the way, or it cannot be written."""


class LabError(HatchBpfError):
    """A kernel cannot be booted, or what should be tried on it cannot be put there."""
