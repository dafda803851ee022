"""Every error that the runtime raises on purpose. Their base class is `BpfError`.

A message says what went wrong, where (the program, the map, the file, the kernel), and what to do about it.
"""

from __future__ import annotations

import errno as _errno
import os

from . import privileges  # now, since a process that drops its rights may not be able to read this folder later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeVar

    ErrorT = TypeVar("ErrorT", bound="BpfError")


class BpfError(Exception):
    """Base of all errors of a skeleton. A command prints it and exits."""

    errno: int = 0
    """The kernel's error number, or 0 if there is none."""

    def __init__(self, message: str, *, errno: int = 0) -> None:
        self.errno = errno
        super().__init__(message)


class LibbpfNotFoundError(BpfError):
    """There is no libbpf.so on this machine."""


class LibbpfTooOldError(BpfError):
    """The libbpf that was found lacks something that is needed."""


class PackageError(BpfError):
    """A file of the installed package is missing or is not the one that was built."""


class ArchitectureError(BpfError):
    """The package has no BPF object for this machine's architecture."""


class KernelNotCoveredError(BpfError):
    """The kernel has no BTF, and the package embeds none for exactly this kernel."""

    def __init__(self, message: str, *, wanted: str, embedded: Sequence[str]) -> None:
        self.wanted = wanted
        """The kernel looked for, `distro/version/arch/release`."""
        self.embedded = tuple(embedded)
        """The kernels whose BTF the package embeds."""
        super().__init__(message)


class PermissionDeniedError(BpfError):
    """The kernel refuses BPF to this process."""


class OpenError(BpfError):
    """libbpf cannot make sense of the BPF object."""


class LoadError(BpfError):
    """The kernel or libbpf refused to load the BPF object."""

    def __init__(self, message: str, *, errno: int = 0, log: str = "") -> None:
        self.log = log
        """All that libbpf logged during the load."""
        super().__init__(message, errno=errno)


class VerifierError(LoadError):
    """The kernel's verifier rejected a program."""

    def __init__(self, message: str, *, errno: int, log: str, program: str, verifier_log: str) -> None:
        self.program = program
        """Name of the rejected program."""
        self.verifier_log = verifier_log
        """The verifier's whole log; the message quotes its end."""
        super().__init__(message, errno=errno, log=log)


class AttachError(BpfError):
    """A program could not be attached, or a link could not be changed."""


class MapError(BpfError):
    """The kernel refused an operation on a map."""


class SymbolError(BpfError):
    """Symbols can't be read."""


class ClosedError(BpfError):
    """The skeleton that this belongs to is closed, or its phase is over."""


class InvalidValueError(BpfError, ValueError):
    """A value does not fit what it is assigned to; the message names the field."""


class InvalidTypeError(BpfError, TypeError):
    """A value of another type belongs there; the message names the field."""


class UnknownNameError(BpfError, AttributeError, KeyError):
    """There is nothing of this name, or nothing that can be set; the message lists what there is."""

    __str__ = Exception.__str__  # KeyError's would quote the message


ENOTSUPP = 524
"""An error number that the kernel means for itself, but lets through to user space."""
LIBBPF_ERRORS = (
    *("LIBELF", "FORMAT", "KVERSION", "ENDIAN", "INTERNAL", "RELOC", "LOAD"),
    *("VERIFY", "PROG2BIG", "KVER", "PROGTYPE", "WRNGPID", "INVSEQ", "NLPARSE"),
)
"""`enum libbpf_errno`, from 4000 on."""


def reason(errno: int) -> str:
    """An error number in words: `EPERM: Operation not permitted`."""
    if errno == ENOTSUPP:
        return "ENOTSUPP: Operation is not supported by this kernel"
    if 0 <= errno - 4000 < len(LIBBPF_ERRORS):
        return f"LIBBPF_ERRNO__{LIBBPF_ERRORS[errno - 4000]}, an error of libbpf's own"
    return f"{_errno.errorcode.get(errno, errno)}: {os.strerror(errno)}"


def failed(kind: type[ErrorT], what: str, code: int, *, hint: str = "") -> ErrorT:
    """The error for a call that failed: `what`, the error number in words, and the hint if there is one."""
    return kind(f"{what}: {reason(code)}{hint and f'; {hint}'}", errno=code)


def tail(lines: Sequence[str], count: int) -> str:
    """The last `count` lines, indented for a message, and how many were left out."""
    shown = [f"  {line}" for line in lines[-count:]]
    if len(lines) > count:
        shown.insert(0, f"  [{len(lines) - count} earlier lines are in the exception]")
    return "\n".join(shown)


def unprivileged() -> bool:
    """Whether this process lacks both CAP_BPF and CAP_SYS_ADMIN."""
    return bool(privileges.lacking(()))


def permission_denied(
    action: str, *, errno: int, lines: Sequence[str] = (), sections: Sequence[str] = (), also: Sequence[str] = ()
) -> PermissionDeniedError:
    """The error for EPERM or EACCES that no verifier log explains.

    `sections` are those of the programs that it is about, `also` capabilities that are wanted besides what these need.
    """
    message = f"{action}: the kernel says {reason(errno)}; {privileges.why(sections, also=also)}"
    return PermissionDeniedError(f"{message}\n{tail(lines, 4)}" if lines else message, errno=errno)
