"""Per-CPU maps: hashes and arrays whose values are lists with an element for each possible CPU.

Input: a loaded map and the codec of one CPU's value. Output: `PerCpuHashMap`, `PerCpuArrayMap`.
"""

from __future__ import annotations

from ctypes import c_uint8

from ..errors import InvalidTypeError, InvalidValueError, MapError, failed
from ..types import Codec, numpy_format, shown
from .arrays import ArrayMap
from .counting import greatest, merged, total
from .hashes import HashMap
from .map import Map
from .shapes import type_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeVar

    from .counting import Function

    K = TypeVar("K")
    V = TypeVar("V")


class _PerCpuValue(Codec["list[Any]"]):
    """A list with a value for each possible CPU; each value takes a multiple of 8 bytes."""

    def __init__(self, value: Codec[Any], cpus: int) -> None:
        self.value = value
        self.cpus = cpus
        self.stride = (value.size + 7) // 8 * 8
        self.size = self.stride * cpus
        self.ctype = c_uint8 * self.size

    def decode(self, storage: Any) -> list[Any]:
        return self.read(storage)

    def read(self, buffer: Any, offset: int = 0) -> list[Any]:
        return [self.value.read(buffer, at) for at in range(offset, offset + self.size, self.stride)]

    def encode(self, value: Any) -> Any:
        if not hasattr(value, "__len__") or isinstance(value, (str, bytes)):
            raise InvalidTypeError(f"must be a list with a value for each possible CPU, not {shown(value)}")
        if len(value) != self.cpus:
            raise InvalidValueError(f"must have a value for each of {self.cpus} possible CPUs, not {len(value)}")
        parts = (bytes(self.value.encode(of_cpu)).ljust(self.stride, b"\0") for of_cpu in value)
        return self.ctype.from_buffer_copy(b"".join(parts))


class _PerCpuMap(Map):
    """A map whose values are lists with an element for each possible CPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cpus = self._libbpf.libbpf_num_possible_cpus()
        if cpus <= 0:
            raise failed(MapError, "the number of possible CPUs can't be read", -cpus)
        self._element = self._value
        self._value: Any = _PerCpuValue(self._element, cpus)

    def _merged(self, function: Function, values: Sequence[Any]) -> Any:
        return [merged(self._element, function, of_cpu) for of_cpu in zip(*values)]


class PerCpuHashMap(_PerCpuMap, HashMap["K", "list[V]"]):
    """BPF_MAP_TYPE_PERCPU_HASH, LRU_PERCPU_HASH: a value is a list with an element for each possible CPU."""

    types = type_numbers("PERCPU_HASH", "LRU_PERCPU_HASH", "PERCPU_CGROUP_STORAGE")

    def sums(self) -> dict[K, V]:
        """For each key the sum over all CPUs; for structs and arrays, that of each number in them."""
        return {key: merged(self._element, total, values) for key, values in self.items()}

    def maxima(self) -> dict[K, V]:
        """For each key the greatest value of any CPU; for structs and arrays, that of each number in them."""
        return {key: merged(self._element, greatest, values) for key, values in self.items()}

    def _value_array(self, numpy: Any, values: bytearray, length: int) -> Any:
        codec = self._value
        slot = {"names": ["value"], "formats": [numpy_format(codec.value)], "itemsize": codec.stride}
        return numpy.ndarray((length, codec.cpus), slot, values)["value"]


class PerCpuArrayMap(_PerCpuMap, ArrayMap["list[V]"]):
    """BPF_MAP_TYPE_PERCPU_ARRAY: each element is a list with a value for each possible CPU."""

    types = type_numbers("PERCPU_ARRAY")

    def sums(self) -> list[V]:
        """For each element the sum over all CPUs; for structs and arrays, that of each number in them."""
        return [merged(self._element, total, values) for values in self]

    def maxima(self) -> list[V]:
        """For each element the greatest value of any CPU; for structs and arrays, that of each number in them."""
        return [merged(self._element, greatest, values) for values in self]
