"""The life of a skeleton: `Skeleton.open()` -> `Opened` -> `load()` -> `Loaded` -> `close()`. Phases are types.

Input: an `ObjectSpec` that the generated module declares, and this machine. Output: a BPF object in the kernel, whose
maps, programs and globals are attributes. Everything is released in the reverse order of its making, whatever happens.
"""

from __future__ import annotations

import ctypes
import errno
import os
import weakref
from ctypes import byref

from . import globals as _globals
from . import kernel as _kernel
from . import libbpf as _libbpf
from .errors import (
    ArchitectureError,
    AttachError,
    BpfError,
    ClosedError,
    LoadError,
    OpenError,
    VerifierError,
    permission_denied,
    reason,
    tail,
)
from .libbpf import Capture, OpenOpts, opts
from .maps import Maps
from .programs import Program, Programs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, ClassVar, Generic, Optional, TypeVar

    from .kernel import BtfChoice
    from .libbpf import Libbpf
    from .links import Link
    from .spec import MapSpec, ObjectSpec, ProgramSpec

    OpenedT = TypeVar("OpenedT", bound="Opened[Any]")
    LoadedT = TypeVar("LoadedT", bound="Loaded")

    class _Skeleton(Generic[OpenedT, LoadedT]):
        pass

    class _Opened(Generic[LoadedT]):
        pass
else:

    class _Skeleton:
        def __class_getitem__(cls, item):
            return cls

    _Opened = _Skeleton

VERIFIER_LINES = 20
"""Lines of the verifier's log that an error's message holds; the exception holds all of them."""
LOG_LINES = 12


class _Object:
    """libbpf's object and what must be released with it. Closing twice is harmless; a forked child's copy is inert."""

    def __init__(self, libbpf: Libbpf, pointer: int, name: str) -> None:
        self.libbpf = libbpf
        self.pointer = pointer
        self.name = name
        self.links: list[Link] = []
        self.parts: list[Any] = []
        """Maps, programs and sections: told when the object goes, so that they never touch what is freed."""
        self.memfd = -1
        self._pid = os.getpid()

    def live(self) -> int:
        if not self.pointer:
            raise ClosedError(f"{self.name}: the skeleton is closed")
        return self.pointer

    def close_memfd(self) -> None:
        if self.memfd >= 0:
            fd, self.memfd = self.memfd, -1
            os.close(fd)

    def close(self) -> None:
        """Detach, last first; then let go of the object. The first error is raised after all is done."""
        if not self.pointer or os.getpid() != self._pid:
            return
        errors: list[BpfError] = []
        while self.links:
            try:
                self.links[-1].detach()
            except BpfError as error:
                errors.append(error)
        for part in reversed(self.parts):
            part._close()
        self.parts.clear()
        pointer, self.pointer = self.pointer, 0
        self.close_memfd()
        self.libbpf.bpf_object__close(pointer)
        if errors:
            raise errors[0]


def _finalize(held: _Object) -> None:
    """For skeletons that were never closed, when they are collected or Python ends: there is nobody to tell errors."""
    try:
        held.close()
    except BpfError:
        pass


class Loaded:
    """A BPF object in the kernel."""

    maps: Any
    programs: Any

    def __init__(self, held: _Object, spec: ObjectSpec, btf: Optional[BtfChoice]) -> None:
        self._held = held
        self._spec = spec
        self._finalizer = weakref.finalize(self, _finalize, held)
        self.btf = btf
        """The BTF its accesses to kernel structs were relocated with; None where it has no such accesses."""
        libbpf, pointer = held.libbpf, held.live()
        maps, programs = [], []
        for item in spec.maps:
            found = libbpf.pointer(libbpf.bpf_object__find_map_by_name(pointer, item.name.encode()))
            loaded = item.cls(libbpf, found, item.name, key=item.key, value=item.value)
            held.parts.append(loaded)
            maps.append((item.attribute, item.name, loaded))
        for program in spec.programs:
            found = libbpf.pointer(libbpf.bpf_object__find_program_by_name(pointer, program.name.encode()))
            ready = Program(libbpf, found, program.name, program.section, held.links)
            held.parts.append(ready)
            programs.append((program.attribute, program.name, ready))
        self.maps = Maps(maps)
        self.programs = Programs(programs)
        for section in spec.sections:
            found = libbpf.pointer(libbpf.bpf_object__find_map_by_name(pointer, section.name.encode()))
            if found:
                writable = not section.name.startswith(".rodata")
                value = _globals.live(libbpf, found, section.cls, name=section.name, writable=writable)
                setattr(self, section.attribute, value)

    @property
    def links(self) -> tuple[Link, ...]:
        """What is attached now, in the order of attaching."""
        return tuple(self._held.links)

    def attach(self) -> None:
        """Attach every loaded program whose section name says where to. Others wait for their `attach_` method."""
        self._held.live()
        for program in self.programs:
            if not program.loaded:
                continue
            try:
                program.attach()
            except AttachError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise

    def close(self) -> None:
        """Detach all, last first, and release everything. Doing it twice is harmless."""
        self._finalizer.detach()
        self._held.close()

    def __enter__(self: Any) -> Any:
        self._held.live()
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "loaded" if self._held.pointer else "closed"
        return f"<{type(self).__name__}: {state}>"


class OpenedMap:
    """A map that is not created yet: its size and the like can still be changed."""

    def __init__(self, held: _Object, pointer: int, spec: MapSpec) -> None:
        self._held = held
        self._pointer = pointer
        self.name = spec.name

    @property
    def max_entries(self) -> int:
        """Number of elements; bytes for a ring buffer."""
        return int(self._call("max_entries"))

    @max_entries.setter
    def max_entries(self, value: int) -> None:
        self._change("max_entries", value)

    @property
    def type(self) -> int:
        """`enum bpf_map_type`."""
        return int(self._call("type"))

    @type.setter
    def type(self, value: int) -> None:
        self._change("type", value)

    @property
    def flags(self) -> int:
        """`BPF_F_*`."""
        return int(self._call("map_flags"))

    @flags.setter
    def flags(self, value: int) -> None:
        self._change("map_flags", value)

    @property
    def pin_path(self) -> Optional[str]:
        """Where the map is pinned when it is created, or taken from if it is there already; None for nowhere."""
        path = self._call("pin_path")
        return None if path is None else os.fsdecode(path)

    @pin_path.setter
    def pin_path(self, value: Optional[str]) -> None:
        self._change("pin_path", None if value is None else os.fsencode(value))

    def reuse(self, fd: int) -> None:
        """Use an existing map instead of creating one; `fd` stays the caller's."""
        if self._held.libbpf.bpf_map__reuse_fd(self._live(), fd):
            raise OpenError(f"map {self.name} can't be replaced by descriptor {fd}: {reason(ctypes.get_errno())}")

    def _live(self) -> int:
        self._held.live()
        if not self._pointer:
            raise ClosedError(f"map {self.name} is loaded; what it is can't be changed any more")
        return self._pointer

    def _call(self, name: str) -> Any:
        return getattr(self._held.libbpf, f"bpf_map__{name}")(self._live())

    def _change(self, name: str, value: Any) -> None:
        if getattr(self._held.libbpf, f"bpf_map__set_{name}")(self._live(), value):
            raise OpenError(f"map {self.name}: {name} can't be {value!r}: {reason(ctypes.get_errno())}")

    def _close(self) -> None:
        self._pointer = 0


class OpenedProgram:
    """A program that is not loaded yet."""

    def __init__(self, held: _Object, pointer: int, spec: ProgramSpec) -> None:
        self._held = held
        self._pointer = pointer
        self.name = spec.name
        self.section = spec.section

    @property
    def autoload(self) -> bool:
        """Whether `load()` loads it."""
        return bool(self._held.libbpf.bpf_program__autoload(self._live()))

    @autoload.setter
    def autoload(self, value: bool) -> None:
        if self._held.libbpf.bpf_program__set_autoload(self._live(), value):
            raise OpenError(f"program {self.name}: autoload can't be changed: {reason(ctypes.get_errno())}")

    def _live(self) -> int:
        self._held.live()
        if not self._pointer:
            raise ClosedError(f"program {self.name} is loaded; autoload can't be changed any more")
        return self._pointer

    def _close(self) -> None:
        self._pointer = 0


class Opened(_Opened["LoadedT"]):
    """An object that libbpf has read, and the kernel not yet: globals, sizes and what to load can be set."""

    maps: Any
    programs: Any
    _loaded_: ClassVar[Any]

    def __init__(self, spec: ObjectSpec, *, btf: Optional[str], libbpf: Optional[str], kconfig: Optional[str]) -> None:
        self._spec = spec
        self._failure: Optional[BpfError] = None
        self._btf: Optional[BtfChoice] = None
        library = _libbpf.load(libbpf)
        bpf_dir = os.path.join(os.path.dirname(os.path.abspath(spec.file)), spec.bpf_dir)
        elf = _read_object(spec, bpf_dir)
        memfd = -1
        options = opts(OpenOpts, object_name=spec.name.encode(), kconfig=kconfig.encode() if kconfig else None)
        if any(program.core for program in spec.programs):
            try:
                self._btf = _kernel.choose_btf(bpf_dir, explicit=btf)
            except BpfError as error:
                if btf is not None:
                    raise
                self._failure = error  # for load() to raise, if a program that needs it is still in then
        if self._btf is not None and self._btf.source == "embedded":
            memfd = _kernel.sealed_memfd("btf", self._btf.data or b"")
            options.btf_custom_path = b"/proc/self/fd/%d" % memfd
        elif self._btf is not None and self._btf.source == "explicit":
            options.btf_custom_path = os.fsencode(self._btf.path)
        try:
            with Capture(library) as lines:
                pointer = library.pointer(library.bpf_object__open_mem(elf, len(elf), byref(options)))
                code = ctypes.get_errno()
            if not pointer:
                raise OpenError(
                    f"{spec.source}: libbpf can't open its object: {reason(code)}\n{tail(lines, LOG_LINES)}"
                )
        except BaseException:
            if memfd >= 0:
                os.close(memfd)
            raise
        self._held = _Object(library, pointer, spec.source)
        self._held.memfd = memfd
        self._finalizer = weakref.finalize(self, _finalize, self._held)
        self._declare()

    def _declare(self) -> None:
        held, spec = self._held, self._spec
        libbpf, pointer = held.libbpf, held.live()
        maps, programs = [], []
        for item in spec.maps:
            found = libbpf.pointer(libbpf.bpf_object__find_map_by_name(pointer, item.name.encode()))
            maps.append((item.attribute, item.name, OpenedMap(held, found, item)))
        for program in spec.programs:
            found = libbpf.pointer(libbpf.bpf_object__find_program_by_name(pointer, program.name.encode()))
            programs.append((program.attribute, program.name, OpenedProgram(held, found, program)))
        held.parts += [part for _, _, part in maps + programs]
        self.maps = Maps(maps)
        self.programs = Programs(programs)
        self._sections: list[tuple[str, int, Any]] = []
        for section in spec.sections:
            found = libbpf.pointer(libbpf.bpf_object__find_map_by_name(pointer, section.name.encode()))
            value = _globals.initial_value(libbpf, found, section.cls) if found else None
            if value is not None:
                setattr(self, section.attribute, value)
                self._sections.append((section.name, found, value))

    def load(self) -> LoadedT:
        """Create the maps, verify and load the programs. Raises `LoadError` and others, and is closed then."""
        held = self._held
        pointer = held.live()
        if not any(part._pointer for part in held.parts) and held.parts:
            raise ClosedError(f"{held.name} is loaded already")
        try:
            if self._failure is not None and any(
                program.core and self.programs[program.name].autoload for program in self._spec.programs
            ):
                raise self._failure
            for name, found, value in self._sections:
                data = bytes(value)
                if held.libbpf.bpf_map__set_initial_value(found, data, len(data)):
                    raise OpenError(f"{name} can't be given its values: {reason(ctypes.get_errno())}")
            with Capture(held.libbpf) as lines:
                result = held.libbpf.bpf_object__load(pointer)
                code = ctypes.get_errno()
            if result:
                raise _load_error(self._spec, code or -result, lines)
            held.close_memfd()
            for part in held.parts:
                part._close()
            held.parts.clear()
            self._finalizer.detach()
            return self._loaded_(held, self._spec, self._btf)  # type: ignore[no-any-return]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release everything, also what `load()` made. Doing it twice is harmless."""
        self._finalizer.detach()
        self._held.close()

    def __enter__(self: Any) -> Any:
        self._held.live()
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


class Skeleton(_Skeleton["OpenedT", "LoadedT"]):
    """A BPF object in a package. `open()` it to set things before the load, or `run()` it at once."""

    _spec_: ClassVar[ObjectSpec]
    _opened_: ClassVar[Any]

    @classmethod
    def open(cls, *, btf: Optional[str] = None, libbpf: Optional[str] = None, kconfig: Optional[str] = None) -> OpenedT:
        """Open the object for this machine's architecture.

        `btf` is the path of this kernel's BTF, instead of the kernel's own or an embedded one; `libbpf` the path of a
        libbpf.so, instead of the system's; `kconfig` text overrides the kernel's configuration for `CONFIG_` externs.
        """
        return cls._opened_(cls._spec_, btf=btf, libbpf=libbpf, kconfig=kconfig)  # type: ignore[no-any-return]

    @classmethod
    def run(cls, *, btf: Optional[str] = None, libbpf: Optional[str] = None, kconfig: Optional[str] = None) -> LoadedT:
        """Open, load, and attach what says by itself where to: the simple case in one call."""
        loaded: Any = cls.open(btf=btf, libbpf=libbpf, kconfig=kconfig).load()
        try:
            loaded.attach()
        except BaseException:
            loaded.close()
            raise
        return loaded  # type: ignore[no-any-return]


def _read_object(spec: ObjectSpec, bpf_dir: str) -> bytes:
    machine = os.uname().machine
    arch = _kernel.ARCH_OF_MACHINE.get(machine, machine)
    if arch not in spec.objects:
        raise ArchitectureError(
            f"{spec.source}: the package holds BPF objects for {', '.join(spec.objects)}; this machine is {machine}. "
            f"Add {arch} to the package's `archs`"
        )
    name, digest = spec.objects[arch]
    return _kernel.read_verified(os.path.join(bpf_dir, name), digest)


def _load_error(spec: ObjectSpec, code: int, lines: list[str]) -> BpfError:
    """What went wrong in bpf_object__load(), from libbpf's messages."""
    log = "\n".join(lines)
    for program, verifier_log in _libbpf.verifier_logs(lines):
        shown = [line for line in verifier_log.split("\n") if line.strip()]
        return VerifierError(
            f"{spec.source}: the kernel rejects program {program}: {reason(code)}; the end of the verifier's log:\n"
            f"{tail(shown, VERIFIER_LINES)}",
            errno=code,
            log=log,
            program=program,
            verifier_log=verifier_log,
        )
    if code in (errno.EPERM, errno.EACCES):
        return permission_denied(f"{spec.source} can't be loaded", errno=code)
    return LoadError(f"{spec.source} can't be loaded: {reason(code)}\n{tail(lines, LOG_LINES)}", errno=code, log=log)
