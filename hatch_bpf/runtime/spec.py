"""What a generated skeleton declares about its BPF object, as plain data. Input: none. Output: `ObjectSpec`."""

from __future__ import annotations

from .plain_data import PlainData

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Optional

    from .maps.map import Map
    from .maps.of_maps import InnerMapSpec
    from .types import Codec, CStruct


class _Named(PlainData):
    """Has its name in C in Python too, unless it is given another as its `attribute`."""

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        vars(self).setdefault("attribute", vars(self)["name"])


class MapSpec(_Named):
    """A map of the object."""

    name: str
    """Its name in C."""
    cls: type[Map]
    attribute: str = ""
    """Its name in Python, if C's can't be used."""
    key: Optional[Codec[Any]] = None
    value: Optional[Codec[Any]] = None
    """For ring and perf buffers: the codec of an event."""
    users: Sequence[str] = ()
    """The programs that refer to it; given only for an object with groups or optional programs."""
    holds: Sequence[str] = ()
    """The maps that libbpf puts into it; given only there, too."""
    inner: Optional[InnerMapSpec] = None
    """What the inner maps of a map of maps are like."""


class ProgramSpec(_Named):
    """A program of the object."""

    name: str
    section: str
    attribute: str = ""
    core: bool = False
    """Whether it has CO-RE relocations, and so can't be loaded without a kernel's BTF."""


class GroupSpec(_Named):
    """Programs, or ring and perf buffers. The first that works is used."""

    name: str
    members: Sequence[str]
    """Names in C, in the order of preference."""
    attribute: str = ""
    of_maps: bool = False


class SectionSpec(PlainData):
    """A section of global variables."""

    name: str
    """`.bss`"""
    attribute: str
    cls: type[CStruct]
    """A struct class with a member for each variable."""
    arena: str = ""
    """The arena that has the variables; empty if libbpf makes a map of the section."""

    @property
    def map_name(self) -> str:
        """libbpf's name of the map that the section is in."""
        return self.arena or self.name

    @property
    def is_settable(self) -> bool:
        """Whether the application may set it before the load. libbpf fills in the kernel's configuration."""
        return self.name != ".kconfig"

    @property
    def is_writable(self) -> bool:
        """Whether the application may set it after the load too."""
        return self.is_settable and not self.name.startswith(".rodata")


class ObjectSpec(PlainData):
    """Everything that a skeleton knows about its object."""

    name: str
    """libbpf's name of the object."""
    source: str
    """The program source it was made from."""
    file: str
    """`__file__` of the skeleton."""
    bpf_dir: str
    """The package's `_bpf` folder, relative to the skeleton's."""
    objects: Mapping[str, tuple[str, str]]
    """Architecture -> file name relative to `bpf_dir`, and its sha256."""
    kernels: tuple[str, str]
    """The file of the embedded BTFs, and its sha256."""
    libraries: str = ""
    """sha256 of the list of libraries that the package brings; empty if it uses the system's libbpf."""
    maps: Sequence[MapSpec] = ()
    programs: Sequence[ProgramSpec] = ()
    sections: Sequence[SectionSpec] = ()
    groups: Sequence[GroupSpec] = ()
    optional: Sequence[str] = ()
    """Programs that are left out if they can't be loaded."""
