"""Maps and programs before the load. Input: libbpf's maps and programs of an object that it has read.

Output: objects whose attributes change what `load()` makes. Every value is checked here, since ctypes would cut a
number to the bits that fit.
"""

from __future__ import annotations

import ctypes
import errno
import os

from .arguments import c_string
from .descriptor import descriptor_of
from .errors import ClosedError, InvalidTypeError, InvalidValueError, OpenError, UnknownNameError, failed
from .host import kernel as _kernel
from .maps.of_maps import import_all_classes
from .maps.shapes import BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_STRUCT_OPS, existing_shape
from .programs.attaching import Attachable
from .programs.program import Program
from .sealed import Sealed
from .sections import parse_section
from .types import Computed, named, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional, Union

    from .descriptor import HasDescriptor
    from .handle import ObjectHandle
    from .spec import MapSpec, ProgramSpec

U32_MAX = (1 << 32) - 1
S32_MAX = (1 << 31) - 1
NAMES_TARGET = "TRACING", "LSM", "EXT"
"""Types of the programs that attach to a function by its name, which the kernel wants to know at the load."""


class _OpenedPart(Sealed):
    """What maps and programs have in common before the load."""

    _kind: str

    def __init__(self, held: ObjectHandle, pointer: int, name: str, loaded: type) -> None:
        self._loaded: Any = loaded
        """Its class once it is loaded."""
        self._autoattach = issubclass(loaded, Attachable)
        self._held = held
        self._pointer = pointer
        self.name = name

    def __repr__(self) -> str:
        return f"<{self._kind} {self.name}, {'not loaded yet' if self._pointer else 'loaded'}>"

    @property
    def autoattach(self) -> bool:
        """Whether `attach()` of the loaded skeleton, and `run()`, attach it: programs and struct_ops maps only."""
        return self._autoattach

    @autoattach.setter
    def autoattach(self, value: bool) -> None:
        self._live()
        if self._bool("autoattach", value) and not issubclass(self._loaded, Attachable):
            raise InvalidValueError(f"{self._called('autoattach')} can't be True: only struct_ops maps are attached")
        self._autoattach = bool(value)

    def _absent_attribute(self, name: str) -> Any:
        if hasattr(self._loaded, name):
            raise UnknownNameError(f"{self!r} has no {name} yet: use that of what load() returns")
        raise UnknownNameError(f"{self!r} has no {name!r}")

    def _live(self) -> int:
        self._held.live()
        if not self._pointer:
            raise ClosedError(f"{self._kind} {self.name} is loaded; set it up before load()")
        return self._pointer

    def _close(self) -> None:
        self._pointer = 0

    def _called(self, field: str) -> str:
        """What an error calls a field."""
        return f"{self._kind} {self.name}: {field}"

    def _int(self, field: str, value: Any, highest: int = U32_MAX) -> int:
        try:
            number: int = value.__index__()
        except AttributeError:
            raise InvalidTypeError(f"{self._called(field)} must be an int, not {type(value).__name__}") from None
        if not 0 <= number <= highest:
            raise InvalidValueError(f"{self._called(field)} can't be {shown(value)}: it must be from 0 to {highest}")
        return number

    def _bool(self, field: str, value: Any) -> bool:
        if not isinstance(value, int) or value not in (0, 1):
            raise InvalidTypeError(f"{self._called(field)} must be True or False, not {shown(value)}")
        return bool(value)


class _Number(Computed[int]):
    """A number of a map. libbpf keeps it; it is checked when it is set."""

    def __init__(self, name: str, *, libbpf_name: str = "", highest: int = U32_MAX) -> None:
        self._name = name
        self._libbpf_name = libbpf_name or name
        self._highest = highest

    def _value(self, instance: OpenedMap) -> int:
        return int(instance._call(self._libbpf_name))

    def __set__(self, instance: OpenedMap, value: int) -> None:
        instance._change(self._libbpf_name, instance._int(self._name, value, self._highest))


class _MapType(_Number):
    """A map's type, which decides about the class that the loaded map has."""

    def __set__(self, instance: OpenedMap, value: int) -> None:
        import_all_classes()
        super().__set__(instance, value)


class OpenedMap(_OpenedPart):
    """A map that is not created yet: its size and the like can still be changed."""

    _kind = "map"

    if not TYPE_CHECKING:  # Python looks these up in the class, past __getattr__()

        def __iter__(self) -> Any:
            """Refused: a map has elements once it is loaded."""
            raise UnknownNameError(f"{self!r} has no elements yet: use that of what load() returns")

        def __getitem__(self, key: Any) -> Any:
            """Refused: a map has elements once it is loaded."""
            return iter(self)

        def __setitem__(self, key: Any, value: Any) -> None:
            """Refused: a map has elements once it is loaded."""
            iter(self)

    def __init__(self, held: ObjectHandle, pointer: int, spec: MapSpec) -> None:
        super().__init__(held, pointer, spec.name, spec.cls)
        self._seal()

    max_entries = _Number("max_entries")
    """Number of elements; bytes for a ring buffer."""
    type = _MapType("type", highest=S32_MAX)
    """`enum bpf_map_type`."""
    key_size = _Number("key_size")
    """Bytes of a key. If it is not the declared type's size, keys of the loaded map are `bytes`."""
    value_size = _Number("value_size")
    """Bytes of a value, for each CPU; 8 for each address of a stack trace. If it is not the declared type's size,
    values of the loaded map are `bytes`."""
    flags = _Number("flags", libbpf_name="map_flags")
    """`BPF_F_*`."""

    @property
    def pin_path(self) -> Optional[str]:
        """Where the map is pinned when it is created, or taken from if it is there already; None for nowhere."""
        path = self._call("pin_path")
        return None if path is None else os.fsdecode(path)

    @pin_path.setter
    def pin_path(self, value: Union[str, os.PathLike[str], None]) -> None:
        self._change("pin_path", None if value is None else c_string(self._called("pin_path"), value))

    @property
    def autocreate(self) -> bool:
        """Whether `load()` creates the map; old kernels lack some kinds. If not, no loaded program may use it."""
        return bool(self._call("autocreate"))

    @autocreate.setter
    def autocreate(self, value: bool) -> None:
        if not self._bool("autocreate", value) and self.type == BPF_MAP_TYPE_STRUCT_OPS:
            self.type = BPF_MAP_TYPE_ARRAY  # libbpf 1.1 crashes over a struct_ops map that is not created
        self._change("autocreate", bool(value))

    def reuse(self, fd: Union[HasDescriptor, int]) -> None:
        """Use an existing map, by itself or its descriptor, instead of creating one; the descriptor stays yours."""
        number = named(self._called("the descriptor to reuse"), descriptor_of, fd)
        existing_shape(
            self._held.libbpf, number, self._loaded.types, f"map {self.name} can't be replaced: descriptor {number}"
        )
        with self._held.links.lock:
            if self._held.libbpf.bpf_map__reuse_fd(self._live(), number):
                what = f"map {self.name} can't be replaced by descriptor {number}"
                raise failed(OpenError, what, ctypes.get_errno())
        name, libbpf, own = self.name, self._held.libbpf, self._pointer
        # the caller may have closed its own by then
        self._held.changes.append(lambda o: libbpf.bpf_map__reuse_fd(o.find_map(name), libbpf.bpf_map__fd(own)))

    def _call(self, name: str) -> Any:
        with self._held.links.lock:
            return getattr(self._held.libbpf, f"bpf_map__{name}")(self._live())

    def _change(self, name: str, value: Any) -> None:
        change, own = getattr(self._held.libbpf, f"bpf_map__set_{name}"), self.name
        with self._held.links.lock:
            if change(self._live(), value):
                what = f"{self._called(name.replace('map_flags', 'flags'))} can't be {shown(value)}"
                raise failed(OpenError, what, ctypes.get_errno())
        self._held.changes.append(lambda other: change(other.find_map(own), value))


class OpenedProgram(_OpenedPart):
    """A program that is not loaded yet."""

    _kind = "program"

    def __init__(self, held: ObjectHandle, pointer: int, spec: ProgramSpec) -> None:
        super().__init__(held, pointer, spec.name, Program)
        self.section = spec.section
        self._seal()

    @property
    def autoload(self) -> bool:
        """Whether `load()` loads it."""
        with self._held.links.lock:
            return bool(self._held.libbpf.bpf_program__autoload(self._live()))

    @autoload.setter
    def autoload(self, value: bool) -> None:
        self._set("autoload", self._held.libbpf.bpf_program__set_autoload, self._bool("autoload", value))

    def set_log_level(self, level: int) -> None:
        """Have the verifier write its log even if it accepts the program: 1, or 2 for more. It goes to logging."""
        self._set("the log level", self._held.libbpf.bpf_program__set_log_level, self._int("the log level", level))

    def set_attach_target(self, function: str, *, program_fd: int = 0) -> None:
        """What a fentry, fexit, LSM or freplace program attaches to: in the kernel, or in another BPF program."""
        set_target, own = self._held.libbpf.bpf_program__set_attach_target, self.name
        called = self._called("the attach target")
        target, fd = c_string(called, function), self._int("program_fd", program_fd, S32_MAX)
        section = parse_section(self.section)
        if section is not None and section.program_type not in NAMES_TARGET:
            what = f"can't be set: SEC({self.section!r}) is none of fentry, fexit, fmod_ret, tp_btf, lsm and freplace"
            raise InvalidValueError(f"{called} {what}")
        self._set(f"the attach target {function}", set_target, fd, target, not_found="" if fd else _not_in_kernel_btf())
        self._held.changes.append(lambda other: set_target(other.find_program(own), fd, target))

    def _set(self, what: str, function: Callable[..., int], *values: object, not_found: str = "") -> None:
        """Call libbpf with these values. `not_found` explains ESRCH."""
        with self._held.links.lock:
            if function(self._live(), *values):
                code = ctypes.get_errno()
                hint = not_found if code == errno.ESRCH else ""
                raise failed(OpenError, f"{self._called(what)} can't be set", code, hint=hint)


def _not_in_kernel_btf() -> str:
    """Why libbpf does not find a function to attach to."""
    if os.path.exists(_kernel.KERNEL_BTF):
        return "the kernel's BTF has no such function"
    return (
        f"libbpf looks it up in the kernel's own BTF, and this kernel has none ({_kernel.KERNEL_BTF} is not there): "
        "set autoload to False for the program here, or use another kind (kprobe, tracepoint)"
    )
