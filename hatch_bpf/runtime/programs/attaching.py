"""Attaching programs and struct_ops maps. Input: libbpf's attach functions. Output: `Link`s."""

from __future__ import annotations

import ctypes
import errno
import os

from .. import privileges
from ..errors import AttachError, permission_denied, reason, tail
from ..host import mounts
from ..libbpf.messages import Capture
from ..sealed import Sealed
from ..sections import parse_section
from .links import LibbpfLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ..libbpf.library import Libbpf
    from .links import Link, Links

    LinkT = TypeVar("LinkT", bound="Link")

ATTACH_LOG_LINES = 8
"""How many lines of libbpf's an attach error quotes."""


class NoTargetError(AttachError):
    """The section name does not say what to attach to. bpf_object__attach_skeleton() skips such programs."""


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

    def _attach(
        self,
        target: str,
        function: str,
        *arguments: Any,
        takes: tuple[str, ...] = (),
        hint: Callable[[int], str] = lambda _: "",
    ) -> Link:
        """Have libbpf attach it, by its function of this name, which takes a pointer to it and these arguments."""
        link, attach = LibbpfLink(self, target, takes=takes, hint=hint), getattr(self._libbpf, function)
        return self._make(link, lambda: link.attach(attach, self._live(), *arguments))

    def _make(self, link: LinkT, attach: Callable[[], None]) -> LinkT:
        """Attach a new link. Whatever exception comes, it is either attached and returned, or not attached."""
        try:
            with self._links.lock, Capture(self._libbpf) as said:
                self._live()
                self._links.get_ready()
                self._links.add(link)
                attach()
                code = ctypes.get_errno()
                if not link.attached:
                    raise self._failed(link, code, said.lines)
            return link
        except BaseException:
            link.detach()
            raise

    def _failed(self, link: Link, code: int, lines: list[str]) -> Exception:
        """The error for a link that could not be attached."""
        what = f"{self._kind} {self.name} can't be attached to {link.target}"
        takes, also = link._takes, link._also
        if code in (errno.EPERM, errno.EACCES):
            if code == errno.EACCES:
                also = (*also, *privileges.for_perf_event(self.section))
            if code == errno.EPERM or privileges.lacking([self.section], also=also):
                return permission_denied(what, errno=code, lines=lines, sections=[self.section], also=also)
        message = f"{what}: {reason(code)}"
        # libbpf prints a line for every other failure, and none if there is no target
        if not (lines or takes) and code == (errno.EOPNOTSUPP if self._libbpf.version >= (0, 8) else errno.ESRCH):
            return NoTargetError(
                f"{message}; the section names no target: use the attach_ method for its kind", errno=code
            )
        section = parse_section(self.section)
        wrong_type = section.program_type if takes and section and section.program_type not in takes else ""
        if wrong_type:
            message += (
                f"; SEC({self.section!r}) makes it a program of type {wrong_type}, and only those of type "
                f"{' or '.join(takes)} can be attached there"
            )
        more = link._hint(code)
        if more:
            message += f"\n  {more}"
        if lines:
            message += "\n" + tail(lines, ATTACH_LOG_LINES)
        tracefs = code == errno.ENOENT and any("perf event ID" in line or "legacy" in line for line in lines)
        unmounted = self._tracefs_hint() if tracefs else ""
        explained = unmounted or ("" if more or wrong_type else _attach_hint(code, lines, self.section))
        if explained:
            message += f"\n  {explained}"
        if code == errno.EACCES and any("perf event ID" in line for line in lines):
            message += (
                "\n  only root may read tracefs, which lists the tracepoints: give the process CAP_DAC_READ_SEARCH, or "
                "let its group read it: mount -o remount,mode=750,gid=GROUP /sys/kernel/tracing"
            )
        return AttachError(message, errno=code)

    def _tracefs_hint(self) -> str:
        """What to mount so that libbpf finds tracepoints and probes; empty if nothing is missing."""
        if self._libbpf.version < (1, 0):
            if os.path.isdir(f"{mounts.TRACEFS[1]}/events"):
                return ""
            return "libbpf before 1.0 finds tracepoints in debugfs only: mount -t debugfs debugfs /sys/kernel/debug"
        if mounts.in_tracefs("events"):
            return ""
        return f"tracefs, which lists the tracepoints, is not mounted: {mounts.MOUNT_TRACEFS}"


def _attach_hint(code: int, lines: list[str], section: str) -> str:
    try:
        from .attach_hints import attach_hint  # most programs can be attached
    except ImportError:  # a process that has dropped its rights may not be able to read the file
        return ""
    return attach_hint(code, lines, section)
