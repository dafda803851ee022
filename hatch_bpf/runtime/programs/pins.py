"""Programs and links that another process, or an earlier run, pinned. Input: a path. Output: what is pinned there.

So a daemon restarts without a gap: the program stays attached by its pinned link, and the new run puts its own program
into that link in one step.
"""

from __future__ import annotations

import ctypes
import os

from ..arguments import path_argument
from ..descriptor import check_is, descriptor_of, open_descriptor
from ..errors import AttachError, ClosedError, failed
from ..host.mounts import no_bpf_file_system
from ..libbpf import library as _library
from ..system.objects import link_info, program_info
from ..types import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar, Union

    from ..descriptor import HasDescriptor
    from ..system.objects import LinkInfo, ProgramInfo

    SelfT = TypeVar("SelfT", bound="_Pinned")


class _Pinned:
    """Something opened from its path in a BPF file system."""

    _noun = ""

    def __init__(self, path: Union[str, os.PathLike[str]]) -> None:
        """Open it. Raises `AttachError` if nothing of this kind is pinned there."""
        self.path: str = path_argument("path", path)
        self._libbpf = _library.current()
        self._fd = open_descriptor(self._libbpf.bpf_obj_get, os.fsencode(self.path))
        if self._fd < 0:
            what, code = f"no {self._noun} can be opened at {self.path}", ctypes.get_errno()
            raise failed(AttachError, what, code, hint=no_bpf_file_system(path))
        check_is(self._noun, self._fd, f"what is pinned at {self.path}", AttachError)

    @property
    def fd(self) -> int:
        """Its descriptor. Raises `ClosedError`."""
        if self._fd < 0:
            raise ClosedError(f"{self!r} is closed")
        return self._fd

    def unpin(self) -> None:
        """Remove the file. What was pinned ends once nobody has it open."""
        try:
            os.unlink(self.path)
        except OSError as error:
            what = f"the {self._noun} at {self.path} can't be unpinned"
            raise failed(AttachError, what, error.errno or 0) from error

    def close(self) -> None:
        """Close it here; it stays pinned. Doing it twice is harmless."""
        self._fd = -1

    def __enter__(self: SelfT) -> SelfT:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self._noun} pinned at {self.path}>"


class PinnedProgram(_Pinned):
    """A pinned program: to inspect, to put into a program array or into a link."""

    _noun = "program"

    def info(self) -> ProgramInfo:
        """What the kernel says about it."""
        return program_info(self._libbpf, self.fd)


class PinnedLink(_Pinned):
    """A pinned link: an attachment that outlives processes."""

    _noun = "link"

    def info(self) -> LinkInfo:
        """What the kernel says about it."""
        return link_info(self._libbpf, self.fd)

    def update(self, program: HasDescriptor) -> None:
        """Put another program of the same kind into the link, in one step: at every moment one of the two runs.

        The kernel can do so for cgroups, XDP, tcx, netkit and network namespaces.
        """
        fd = named("program", descriptor_of, program)
        if self._libbpf.bpf_link_update(self.fd, fd, None) < 0:
            raise self._failed("be updated")

    def detach(self) -> None:
        """Detach its program at once, whoever has the link open (Linux 5.9). The file stays until `unpin()`."""
        if self._libbpf.bpf_link_detach(self.fd) < 0:
            raise self._failed("be detached")

    def _failed(self, what: str) -> AttachError:
        return failed(AttachError, f"the link pinned at {self.path} can't {what}", ctypes.get_errno())
