"""struct_ops maps: programs that together implement an interface of the kernel, such as a TCP congestion control.

Input: a map that libbpf made of a variable in `.struct_ops` or `.struct_ops.link`. Output: a `Link` when attached.
"""

from __future__ import annotations

from .errors import ClosedError
from .maps.map import Map
from .programs.attaching import Attachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .libbpf.library import Libbpf
    from .maps.shapes import MapShape
    from .programs.links import Link, Links


class StructOps(Map, Attachable):
    """An implementation of a kernel interface, registered with the kernel while it is attached."""

    _kind = "struct_ops map"

    def __init__(self, libbpf: Libbpf, shape: MapShape, name: str, *, pointer: int, links: Links) -> None:
        super().__init__(libbpf, shape, name)
        self._pointer = pointer
        self._links = links
        self.is_created = shape.fd >= 0
        """False if autocreate was turned off."""

    def attach(self) -> Link:
        """Register it with the kernel. A link of one in `.struct_ops.link` can be updated and pinned."""
        return self._attach("the kernel", "bpf_map__attach_struct_ops", takes=("STRUCT_OPS",))

    def _put_into(self, link: int) -> int:
        with self._links.lock:
            return int(self._libbpf.bpf_link__update_map(link, self._live()))

    def _live(self) -> int:
        if not self._pointer:
            raise ClosedError(f"map {self.name}: the skeleton is closed")
        return self._pointer

    def _close(self) -> None:
        super()._close()
        self._pointer = 0
