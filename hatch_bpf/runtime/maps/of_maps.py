"""The object for a map that exists, and maps of maps, which make such objects for their inner maps.

Input: a map's shape, and what the skeleton declares about it. Output: an object of the right class; `Maps` has those
of a skeleton.
"""

from __future__ import annotations

import ctypes
from ctypes import byref

from ..descriptor import open_descriptor
from ..errors import MapError, failed
from ..generic import Generic
from ..libbpf.library import MapCreateOpts, opts
from ..members import Members
from ..plain_data import PlainData
from ..types import U32, named
from .map import KeyedMap, Map
from .shapes import MapShape, existing_shape, shape_of, type_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional, Protocol, TypeVar, Union

    from ..descriptor import HasDescriptor
    from ..libbpf.library import Libbpf
    from ..types import Codec

    K = TypeVar("K")
    M = TypeVar("M", bound="Map")

    class DeclaredMap(Protocol):
        """What a skeleton says about a map."""

        cls: type[Map]
        key: Optional[Codec[Any]]
        value: Optional[Codec[Any]]
        inner: Optional[InnerMapSpec]


class InnerMapSpec(PlainData):
    """The inner maps of a map of maps, as the object declares them."""

    cls: type[Map]
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    key: Optional[Codec[Any]] = None
    value: Optional[Codec[Any]] = None
    inner: Optional[InnerMapSpec] = None

    def create(self, libbpf: Libbpf, name: str, max_entries: int) -> Map:
        """Make such a map. Raises `MapError`."""
        options = opts(MapCreateOpts, map_flags=self.flags)
        create = libbpf.bpf_map_create
        fd = open_descriptor(create, self.type, None, self.key_size, self.value_size, max_entries, byref(options))
        if fd < 0:
            raise failed(MapError, f"map {name} can't be created", ctypes.get_errno())
        return make_map(libbpf, shape_of(self, fd=fd, max_entries=max_entries), name, self)


def make_map(libbpf: Libbpf, shape: MapShape, name: str, declared: DeclaredMap) -> Map:
    """The object for a map that exists."""
    cls = declared.cls
    if shape.fd >= 0 and cls.types and shape.type not in cls.types:
        cls = _class_of(shape.type)  # the type was changed before the load
    made = cls.for_shape(shape)(libbpf, shape, name, key=declared.key, value=declared.value)
    if isinstance(made, MapOfMaps):
        made._inner = declared.inner
    made._seal()
    return made


def import_all_classes() -> None:
    """Import the classes of all types, as a map's type may change: later the process may not be able to read them."""
    from . import arrays, descriptors, hashes, percpu, queues  # noqa: F401


def _class_of(map_type: int) -> type[Map]:
    """The class for maps of a type: `Map` itself if none is for it."""
    classes = [Map]
    for cls in classes:  # which grows meanwhile
        if map_type in cls.types:
            return cls
        classes += cls.__subclasses__()
    return Map


class MapOfMaps(KeyedMap["K", "int"], Generic["K", "M"]):
    """BPF_MAP_TYPE_HASH_OF_MAPS and ARRAY_OF_MAPS: inner maps by key; reading gives an inner map's id."""

    types = type_numbers("ARRAY_OF_MAPS", "HASH_OF_MAPS")
    _inner: Optional[InnerMapSpec] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "value": U32})

    def create(self, key: K, *, max_entries: Optional[int] = None) -> M:
        """Make an inner map as the object declares it, store it under a key, and return it.

        `max_entries` replaces the declared number of elements, if the kernel lets it differ: for hashes, and for arrays
        with BPF_F_INNER_MAP.
        """
        made = self.create_inner(max_entries=max_entries)
        self[key] = made
        return made

    def create_inner(self, *, max_entries: Optional[int] = None) -> M:
        """Make an inner map as `create()` does, and return it without storing it.

        Fill it, and then put it with `outer[key] = inner`, in one step, in the place of the one that programs use.
        """
        self.fd  # noqa: B018 - raises ClosedError
        inner = self._declared_inner()
        size = inner.max_entries if max_entries is None else max_entries
        name = f"{self.name}.inner"
        return inner.create(self._libbpf, name, named("max_entries", U32.put, size))  # type: ignore[return-value]

    def open_inner(self, key: K) -> M:
        """Open the inner map under a key, even if another process stored it. Raises `KeyError`, `MapError`."""
        inner, number = self._declared_inner(), self[key]
        fd = open_descriptor(self._libbpf.bpf_map_get_fd_by_id, number)
        if fd < 0:
            raise self._error(f"give its inner map with id {number}")
        shape = existing_shape(self._libbpf, fd, inner.cls.types, f"inner map {number} of map {self.name}")
        return make_map(self._libbpf, shape, f"{self.name}.inner", inner)  # type: ignore[return-value]

    def _declared_inner(self) -> InnerMapSpec:
        if self._inner is None:
            raise MapError(f"map {self.name}: the object declares no inner map: make one yourself and store it")
        return self._inner

    def __setitem__(self, key: K, inner: Union[HasDescriptor, int]) -> None:
        """Store a map, or the descriptor of one."""
        self._store_descriptor(self._encode_key(key), inner)

    def __iter__(self) -> Iterator[K]:
        return (self._key.decode(key) for key in self._keys())


class Maps(Members):
    """The maps of a skeleton, as attributes; also by their names in C: `maps["counts"]`."""
