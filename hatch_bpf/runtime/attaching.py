"""Attaching programs and struct_ops maps. Input: libbpf's attach functions. Output: `Link`s."""

from __future__ import annotations

import ctypes
import errno
import os

from . import privileges
from .errors import AttachError, permission_denied, reason, tail
from .libbpf import Capture
from .links import LibbpfLink
from .sealed import Sealed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from .errors import BpfError
    from .libbpf import Libbpf
    from .links import Link, Links

TRACEFS = ("/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events")
LOG_LINES = 8
"""How many lines of libbpf's an attach error quotes."""


class Attachable(Sealed):
    """A part of a loaded object that can be attached."""

    name: str
    section = "struct_ops"
    """Name of the ELF section, which determines the kind of a program."""
    _libbpf: Libbpf
    _links: Links
    _kind = "program"

    def _refusal(self, name: str) -> str:
        what = f"{self._kind} {self.name}: {name} can't be set"
        return f"{what}; what can be set before load() is set on what open() returned"

    def _live(self) -> int:
        """libbpf's pointer. Raises `ClosedError`."""
        raise NotImplementedError

    @property
    def fd(self) -> int:
        """Its descriptor. Raises `ClosedError`."""
        raise NotImplementedError

    def _put_into(self, link: int) -> int:
        """Make a link of libbpf's attach this instead. Returns a negative number on failure."""
        with self._links.lock:
            return int(self._libbpf.bpf_link__update_program(link, self._live()))

    def _attach(self, target: str, attach: Callable[[int], Optional[int]]) -> Link:
        """Attach it by a call of libbpf's, which `attach` makes with libbpf's pointer, and keep the link."""
        with self._links.lock, Capture(self._libbpf) as lines:
            own = self._live()
            self._links.get_ready()
            pointer = self._libbpf.pointer(attach(own))
            code = ctypes.get_errno()
            if not pointer:
                raise self._failed(target, code, lines)
            return self._links.add(LibbpfLink(self, target, pointer))

    def _failed(self, target: str, code: int, lines: list[str], *, also: tuple[str, ...] = ()) -> Exception:
        """The error for a failed attach. `also` are capabilities that it needs besides those of the program."""
        what = f"{self._kind} {self.name} can't be attached to {target}"
        if code in (errno.EPERM, errno.EACCES):
            if code == errno.EACCES:
                also = (*also, *privileges.for_perf_event(self.section))
            if code == errno.EPERM or privileges.lacking([self.section], also=also):
                return permission_denied(what, errno=code, lines=lines, sections=[self.section], also=also)
        message = f"{what}: {reason(code)}"
        if code == errno.EOPNOTSUPP and not lines:
            message += "; the section names no target: use the attach_ method for its kind"
        if lines:
            message += "\n" + tail(lines, LOG_LINES)
        if code == errno.EACCES and any("perf event ID" in line for line in lines):
            message += (
                "\n  only root may read tracefs, which lists the tracepoints: give the process CAP_DAC_READ_SEARCH, or "
                "let its group read it: mount -o remount,mode=750,gid=GROUP /sys/kernel/tracing"
            )
        if code == errno.ENOENT and any("perf event ID" in line or "legacy" in line for line in lines):
            message += self._tracefs_hint()
        return AttachError(message, errno=code)

    def _tracefs_hint(self) -> str:
        """What to mount so that libbpf finds tracepoints and probes; empty if nothing is missing."""
        if self._libbpf.version < (1, 0):
            if os.path.isdir(TRACEFS[1]):
                return ""
            return "\n  libbpf before 1.0 finds tracepoints in debugfs only: mount -t debugfs debugfs /sys/kernel/debug"
        if any(map(os.path.isdir, TRACEFS)):
            return ""
        return "\n  tracefs, which lists the tracepoints, is not mounted: mount -t tracefs tracefs /sys/kernel/tracing"


def says_no_target(error: BpfError, libbpf: Libbpf) -> bool:
    """Whether an `attach()` failed because the section name has no target."""
    return error.errno == errno.EOPNOTSUPP or (libbpf.version < (0, 8) and error.errno == errno.ESRCH)
