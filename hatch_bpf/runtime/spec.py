"""What a generated skeleton declares about its BPF object, as plain data. Input: none. Output: `ObjectSpec`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Optional

    from .maps.map import InnerMapSpec, Map
    from .types import Codec, CStruct


class MapSpec:
    """A map of the object."""

    __slots__ = ("attribute", "cls", "holds", "inner", "key", "name", "users", "value")

    def __init__(
        self,
        name: str,
        cls: type[Map],
        *,
        attribute: str = "",
        key: Optional[Codec[Any]] = None,
        value: Optional[Codec[Any]] = None,
        users: Sequence[str] = (),
        holds: Sequence[str] = (),
        inner: Optional[InnerMapSpec] = None,
    ) -> None:
        self.name = name
        """Its name in C."""
        self.attribute = attribute or name
        """Its name in Python, if C's can't be used."""
        self.cls = cls
        self.key = key
        self.value = value
        """For ring and perf buffers: the codec of an event."""
        self.users = users
        """The programs that refer to it; given only for an object with groups or optional programs."""
        self.holds = holds
        """The maps that libbpf puts into it; given only there, too."""
        self.inner = inner
        """What the inner maps of a map of maps are like."""


class ProgramSpec:
    """A program of the object."""

    __slots__ = ("attribute", "core", "name", "section")

    def __init__(self, name: str, section: str, *, attribute: str = "", core: bool = False) -> None:
        self.name = name
        self.attribute = attribute or name
        self.section = section
        self.core = core
        """Whether it has CO-RE relocations, and so can't be loaded without a kernel's BTF."""


class GroupSpec:
    """Programs, or ring and perf buffers, of which the first that works is used."""

    __slots__ = ("attribute", "members", "name", "of_maps")

    def __init__(self, name: str, members: Sequence[str], *, attribute: str = "", of_maps: bool = False) -> None:
        self.name = name
        self.members = members
        """Names in C, in the order of preference."""
        self.attribute = attribute or name
        self.of_maps = of_maps


class SectionSpec:
    """A section of global variables."""

    __slots__ = ("arena", "attribute", "cls", "name")

    def __init__(self, name: str, attribute: str, cls: type[CStruct], *, arena: str = "") -> None:
        self.name = name
        """`.bss`"""
        self.attribute = attribute
        self.cls = cls
        """A struct class with a member for each variable."""
        self.arena = arena
        """The arena that has the variables; empty if libbpf makes a map of the section."""

    @property
    def map_name(self) -> str:
        """libbpf's name of the map that the section is in."""
        return self.arena or self.name

    @property
    def is_settable(self) -> bool:
        """Whether the application may set it before the load. libbpf fills in the kernel's configuration."""
        return self.name != ".kconfig"


class ObjectSpec:
    """Everything that a skeleton knows about its object."""

    __slots__ = (
        "bpf_dir",
        "file",
        "groups",
        "kernels",
        "libraries",
        "maps",
        "name",
        "objects",
        "optional",
        "programs",
        "sections",
        "source",
    )

    def __init__(
        self,
        *,
        name: str,
        source: str,
        file: str,
        bpf_dir: str,
        objects: Mapping[str, tuple[str, str]],
        kernels: tuple[str, str],
        libraries: str = "",
        maps: Sequence[MapSpec] = (),
        programs: Sequence[ProgramSpec] = (),
        sections: Sequence[SectionSpec] = (),
        groups: Sequence[GroupSpec] = (),
        optional: Sequence[str] = (),
    ) -> None:
        self.name = name
        """libbpf's name of the object."""
        self.source = source
        """The program source it was made from."""
        self.file = file
        """`__file__` of the skeleton."""
        self.bpf_dir = bpf_dir
        """The package's `_bpf` folder, relative to the skeleton's."""
        self.objects = objects
        """Architecture -> file name relative to `bpf_dir`, and its sha256."""
        self.kernels = kernels
        """The file of the embedded BTFs, and its sha256."""
        self.libraries = libraries
        """sha256 of the list of libraries that the package brings; empty if it uses the system's libbpf."""
        self.maps = maps
        self.programs = programs
        self.sections = sections
        self.groups = groups
        self.optional = optional
        """Programs that are left out if they can't be loaded."""
