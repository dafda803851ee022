"""Global variables: .data, .bss, .rodata and custom sections, as structs with a member for each variable.

Input: a section's struct class and its map. Output: before the load, the `Initial` values, which `load()` hands to
libbpf; after it, the section itself, mapped into memory. If the kernel can't map it (before 5.5), a `Mirror` reads
and writes it through the map. Read-only sections are a `Mirror` that refuses writes. Before 5.2 kernels have no global
variables: libbpf makes no map, and loads the programs that use none; the section is `Missing`.
"""

from __future__ import annotations

import ctypes
import mmap
from _operator import getitem, setitem  # where operator has them from, without its Python part

from .descriptor import own_descriptor
from .errors import ClosedError, PackageError, UnknownNameError, failed
from .maps.shapes import created_descriptor
from .types import ArrayView, CStruct, CUnion, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Optional, Protocol

    from .libbpf.library import Libbpf
    from .spec import SectionSpec

    class Source(Protocol):
        """Where a `Mirror` gets its values."""

        name: str
        writable: bool

        def refresh(self) -> None: ...

        def flush(self) -> None: ...


BPF_F_MMAPABLE = 1 << 10
VIEWS = (CStruct, CUnion, ArrayView)
"""What refers to a part of a section. Other values are copies."""
FLIPS_MMAPABLE = 1, 5
"""The first libbpf that clears the flag of its own maps where the kernel does not know it; earlier ones flip it."""


def make_mappable(libbpf: Libbpf, object_pointer: int) -> None:
    """Set BPF_F_MMAPABLE on all maps that libbpf makes of sections, so that flipping clears it, on Linux before 5.5.

    libbpf leaves it out for static data, such as the texts of `bpf_printk()`.
    """
    pointer = libbpf.bpf_object__next_map(object_pointer, None)
    while pointer:
        if libbpf.bpf_map__is_internal(pointer):
            libbpf.bpf_map__set_map_flags(pointer, libbpf.bpf_map__map_flags(pointer) | BPF_F_MMAPABLE)
        pointer = libbpf.bpf_object__next_map(object_pointer, pointer)


def initial_value(libbpf: Libbpf, map_pointer: int, section: SectionSpec) -> Mirror:
    """A copy of a section's initial value, to be set before the load."""
    size = ctypes.c_size_t()
    address = libbpf.bpf_map__initial_value(map_pointer, ctypes.byref(size))
    if not address or size.value < size_of(section.cls):
        raise PackageError(f"section {section.name} of the object does not match this skeleton")
    value = section.cls.from_buffer_copy(ctypes.string_at(address, size_of(section.cls)))
    return Mirror(Initial(section.attribute), value)


def loaded_section(libbpf: Libbpf, map_pointer: int, spec: SectionSpec) -> tuple[Any, Optional[Section]]:
    """A section of a loaded object, and the part of it that must be closed with the object, if any."""
    fd = created_descriptor(libbpf, map_pointer)
    if fd < 0:
        return Missing(spec.name), None
    if spec.is_writable and libbpf.bpf_map__map_flags(map_pointer) & BPF_F_MMAPABLE:
        try:
            # the struct keeps the mapping alive even after the skeleton is closed, so that no pointer dangles
            pages = mmap.mmap(fd, size_of(spec.cls), mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            return spec.cls.from_buffer(pages), None
        except OSError:
            pass  # the kernel knows the flag but refuses the mapping
    size = libbpf.bpf_map__value_size(map_pointer)
    if size < size_of(spec.cls):
        raise PackageError(f"section {spec.name} of the object does not match this skeleton")
    section = Section(libbpf, own_descriptor("a map", fd), spec, size)
    return Mirror(section, section.value), section


class Initial:
    """A section before the load. Once that is over, its values are of no use, and it refuses to give or take any."""

    writable = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._is_over = ""

    def refresh(self) -> None:
        """Make sure that it is still of use. Raises `ClosedError`."""
        if self._is_over:
            raise ClosedError(f"{self.name}: {self._is_over}")

    def flush(self) -> None:
        """Nothing: `load()` reads the values when it needs them."""

    def end(self, why: str) -> None:
        """Refuse every use from now on, saying why."""
        self._is_over = why


def end_all(values: Iterable[Any], why: str) -> None:
    """Make what the application has kept of these sections from before the load refuse every use, and say why."""
    for value in values:
        if isinstance(value, Mirror) and isinstance(value._section, Initial):
            value._section.end(why)


class Section:
    """A section that is read and written as the only element of its array map."""

    def __init__(self, libbpf: Libbpf, fd: int, spec: SectionSpec, size: int) -> None:
        self._libbpf = libbpf
        self._fd = fd
        self._key = ctypes.c_uint32(0)
        self._buffer = bytearray(size)
        self._storage = (ctypes.c_uint8 * size).from_buffer(self._buffer)
        self.name = spec.name
        self.writable = spec.is_writable
        self.value = spec.cls.from_buffer(self._buffer)
        self.refresh()

    def refresh(self) -> None:
        """Read the section from the kernel."""
        if self._libbpf.bpf_map_lookup_elem(self._live(), ctypes.byref(self._key), self._storage):
            raise failed(ClosedError, f"{self.name} can't be read", ctypes.get_errno())

    def flush(self) -> None:
        """Write the section to the kernel."""
        if self._libbpf.bpf_map_update_elem(self._live(), ctypes.byref(self._key), self._storage, 0):
            raise failed(ClosedError, f"{self.name} can't be written", ctypes.get_errno())

    def _live(self) -> int:
        fd = self._fd
        if fd < 0:
            raise ClosedError(f"{self.name}: the skeleton is closed")
        return fd

    def _close(self) -> None:
        self._fd = -1


class Missing:
    """A section that this kernel does not have. Every use of a variable in it raises `UnknownNameError`."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def _refuse(self) -> UnknownNameError:
        return UnknownNameError(
            f"{self._name} is not on this kernel: it has no global variables, which came with Linux 5.2"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # Python asks for these itself, to copy an object and the like
        raise self._refuse()

    def __setattr__(self, name: str, value: Any) -> None:
        raise self._refuse()

    def __repr__(self) -> str:
        return f"<{self._name}: missing on this kernel>"


class Mirror:
    """A struct, union or array of a section, which is read before and written after each access."""

    __slots__ = ("_section", "_target")

    _section: Any
    _target: Any

    def __init__(self, section: Source, target: Any) -> None:
        object.__setattr__(self, "_section", section)
        object.__setattr__(self, "_target", target)

    def _refresh(self) -> None:
        if self._section.writable:  # a section that can't be written never changes
            self._section.refresh()

    def _wrap(self, value: Any) -> Any:
        return Mirror(self._section, value) if isinstance(value, VIEWS) else value

    def _get(self, read: Callable[[Any, Any], Any], what: Any) -> Any:
        """A member or an element, by `getattr` or `getitem`."""
        self._refresh()
        value = read(self._target, what)
        return list(map(self._wrap, value)) if isinstance(what, slice) else self._wrap(value)

    def _set(self, write: Callable[[Any, Any, Any], None], what: Any, value: Any) -> None:
        """Set a member or an element, by `setattr` or `setitem`."""
        if not self._section.writable:
            raise UnknownNameError(f"{self._section.name} is read-only once the object is loaded; set it before load()")
        self._refresh()
        write(self._target, what, plain(value))
        self._section.flush()

    def __getattr__(self, name: str) -> Any:
        return self._get(getattr, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._set(setattr, name, value)

    def __getitem__(self, index: Any) -> Any:
        return self._get(getitem, index)

    def __setitem__(self, index: int, value: Any) -> None:
        self._set(setitem, index, value)

    def __len__(self) -> int:
        return len(self._target)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        self._refresh()
        return bool(self._target == plain(other))

    def __bytes__(self) -> bytes:
        self._refresh()
        return bytes(self._target)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        self._refresh()
        return repr(self._target)

    def __dir__(self) -> list[str]:
        return dir(self._target)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as a struct of its own, or as a list for an array."""
        self._refresh()
        target = self._target
        return (list, (list(target),)) if isinstance(target, ArrayView) else target.__reduce__()


def plain(value: Any) -> Any:
    """The struct, union or array behind a mirror, as it is now."""
    if not isinstance(value, Mirror):
        return value
    value._refresh()
    return value._target
