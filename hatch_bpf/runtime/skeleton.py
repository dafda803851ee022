"""The life of a skeleton: `Skeleton.open()` -> `Opened` -> `load()` -> `Loaded` -> `close()`. Phases are types.

Input: the `ObjectSpec` that the generated module declares, and this machine. Output: a BPF object in the kernel, whose
maps, programs and globals are attributes. Whatever happens, everything is released in the reverse order.
"""

from __future__ import annotations

import ctypes
import os

from . import alternatives as _alternatives
from . import globals as _globals
from .arguments import c_string, path_argument
from .errors import (
    ArchitectureError,
    BpfError,
    ClosedError,
    InvalidTypeError,
    KernelNotCoveredError,
    UnknownNameError,
)
from .events.source import EventSource
from .generic import Generic
from .handle import ObjectHandle
from .host import kernel as _kernel
from .host.arch import of_machine, running_name
from .libbpf import library as _libbpf
from .libbpf.library import OpenOpts, opts
from .libbpf.messages import Capture
from .load_errors import check_libbpf_is_new_enough, load_error
from .maps.of_maps import Maps, import_all_classes, make_map
from .maps.shapes import loaded_shape, pinned_shape
from .opened import OpenedMap, OpenedProgram
from .programs.attaching import NoTargetError
from .programs.program import Program, Programs
from .sealed import Sealed
from .sections import ARENA_VARIABLES
from .structops import StructOps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Optional, TypeVar, Union

    from .alternatives import Choice
    from .host.kernel import BtfChoice
    from .libbpf.library import Libbpf
    from .maps.map import Map
    from .programs.links import Link
    from .spec import MapSpec, ObjectSpec, ProgramSpec

    OpenedT = TypeVar("OpenedT", bound="Opened[Any]")
    LoadedT = TypeVar("LoadedT", bound="Loaded")
    SelfT = TypeVar("SelfT")


class _Phase(Sealed):
    """What an object has both before and after the load."""

    _held: ObjectHandle
    _spec: ObjectSpec

    def close(self) -> None:
        """Detach everything, last first, and release the object, loaded or not. Doing it twice is harmless."""
        self._held.close_on_request()

    def __exit__(self, *_: object) -> None:
        try:
            self._held.close()
        finally:
            self._held.close()  # if a signal handler raises an exception on the way

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._held.globals]

    def _refusal(self, name: str) -> str:
        """The refusal to replace a whole section says what to write instead."""
        if any(name == section.attribute for section in self._spec.sections):
            return f"{self!r}: {name} can't be replaced; set its variables: {name}.NAME = value"
        return super()._refusal(name)


class Loaded(_Phase):
    """A BPF object in the kernel."""

    maps: Any
    programs: Any

    def __init__(
        self,
        held: ObjectHandle,
        spec: ObjectSpec,
        btf: Optional[BtfChoice],
        autoattach: frozenset[str],
        choices: tuple[Choice, ...] = (),
    ) -> None:
        self._held = held
        self._spec = spec
        self._autoattach = autoattach
        held.close_with(self)
        self.btf = btf
        """The BTF by which its accesses to kernel structs were relocated; None if it has no such accesses."""
        self.choices = choices
        """The decision about each group of alternatives and each optional program."""
        maps = [(m.attribute, m.name, _loaded_map(held, m)) for m in spec.maps]
        programs = [(p.attribute, p.name, _loaded_program(held, p)) for p in spec.programs]
        held.parts += [part for _, _, part in (*maps, *programs)]
        self.maps = Maps(maps)
        self.programs = Programs(programs)
        chosen = {choice.name: choice.chosen for choice in choices}
        for group in spec.groups:
            of: Any = self.maps if group.of_maps else self.programs
            of._add(group.attribute, of[chosen[group.name] or group.members[0]])
        for section in spec.sections:
            if section.arena:
                from .arena import arena_mirror  # few packages have one

                held.globals[section.attribute] = arena_mirror(held, section)
                continue
            value, part = _globals.loaded_section(held.libbpf, held.find_map(section.name), section)
            held.globals[section.attribute] = value
            if part is not None:
                held.parts.append(part)
        self._seal()

    @property
    def links(self) -> tuple[Link, ...]:
        """All current attachments, in the order in which they were made."""
        return tuple(self._held.links)

    def explain(self) -> str:
        """In words: which libbpf and BTF are used, what was chosen from each group, what was left out, and why."""
        btf = "no BTF is needed" if self.btf is None else str(self.btf)
        return _alternatives.explain(self._spec.source, self.choices, btf=btf, libbpf=self._held.libbpf)

    def attach(self) -> None:
        """Attach every loaded program whose section name has a target, then the struct_ops maps.

        The other programs are attached by their `attach_` methods.
        """
        self._held.live()
        wanted = self._autoattach.difference(link.program.name for link in self.links)
        for program in self.programs:
            if program.loaded and program.name in wanted:
                try:
                    program.attach()
                except NoTargetError:
                    pass
        for item in self.maps:
            if isinstance(item, StructOps) and item.is_created and item.name in wanted:
                item.attach()

    def _absent_attribute(self, name: str) -> Any:
        return self._held.find_global(self, self._spec, name)

    def __enter__(self: SelfT) -> SelfT:
        opened: Any = self
        if (
            not opened._held.made
        ):  # no call but to raise: after a call a signal handler could keep the block from running
            opened._held.live()
        return self

    def __repr__(self) -> str:
        state = "loaded" if self._held.pointer else "closed"
        return f"<{type(self).__name__}: {state}>"


def _loaded_map(held: ObjectHandle, item: MapSpec) -> Map:
    pointer = held.find_map(item.name)
    shape = loaded_shape(held.libbpf, pointer)
    if item.cls is StructOps:
        loaded: Map = StructOps(held.libbpf, shape, item.name, pointer=pointer, links=held.links)
        loaded._seal()
    else:
        loaded = make_map(held.libbpf, shape, item.name, item)
    if item.value is not None and isinstance(loaded, EventSource) and shape.fd >= 0:
        held.links.before_first.append(loaded.get_ready)
    return loaded


def _loaded_program(held: ObjectHandle, item: ProgramSpec) -> Program:
    program = Program(held.libbpf, held.find_program(item.name), item.name, item.section, links=held.links)
    program._seal()
    return program


class Opened(_Phase, Generic["LoadedT"]):
    """An object that libbpf has read but not loaded: globals, sizes and what to load can be set."""

    maps: Any
    programs: Any
    _loaded_: ClassVar[Any]

    def __init__(
        self,
        spec: ObjectSpec,
        *,
        btf: Union[str, bytes, None],
        libbpf: Optional[str],
        kconfig: Optional[str],
        token: Optional[str],
    ) -> None:
        if btf is not None and not isinstance(btf, bytes):
            btf = path_argument("btf", btf)
        libbpf, token = (
            None if path is None else path_argument(name, path) for name, path in (("libbpf", libbpf), ("token", token))
        )
        if kconfig is not None and not isinstance(kconfig, str):
            raise InvalidTypeError(f"kconfig must be a str, not {type(kconfig).__name__}")
        self._kconfig = None if kconfig is None else c_string("kconfig", kconfig)
        self._spec = spec
        self._is_loaded = False
        self._uncovered: Optional[BpfError] = None
        bpf_dir = os.path.join(os.path.dirname(os.path.abspath(spec.file)), spec.bpf_dir)
        self._elf = _read_object(spec, bpf_dir)
        library = _libbpf.load(libbpf, libraries=spec.libraries)
        self._btf = self._choose_btf(bpf_dir, explicit=btf)
        self._held = held = ObjectHandle(library, spec.source)
        if token is not None:
            from .libbpf.tokens import check_token  # few packages have one

            held.token = os.path.abspath(token)  # libbpf opens it as late as at the load
            check_token(library, held.token)
        held.close_with(self)
        try:
            self._open(held)
            self._set_up(held)
        except BaseException:
            held.close()
            raise

    def _set_up(self, held: ObjectHandle) -> None:
        """Make the maps, programs and sections of the object."""
        spec = self._spec
        _check_struct_ops_are_known(spec, held)
        maps = [(m.attribute, m.name, OpenedMap(held, held.find_map(m.name), m)) for m in spec.maps]
        programs = [(p.attribute, p.name, OpenedProgram(held, held.find_program(p.name), p)) for p in spec.programs]
        held.parts += [part for _, _, part in (*maps, *programs)]
        self.maps = Maps(maps)
        self.programs = Programs(programs)
        for section in filter(lambda section: section.is_settable, spec.sections):
            if section.arena:
                held.libbpf.require(ARENA_VARIABLES, f"{spec.source}: an arena with global variables")
            value = _globals.initial_value(held.libbpf, held.find_map(section.map_name), section)
            held.globals[section.attribute] = value
        # SEC("?...") leaves these to the application, and the project's options ask for them
        for name in (*spec.optional, *(name for group in spec.groups if not group.of_maps for name in group.members)):
            self.programs[name].autoload = True
        if spec.groups or spec.optional:
            import_all_classes()  # libbpf before 0.8 makes an array of a map that is left out
        self._seal()

    def load(self) -> LoadedT:
        """Create the maps, verify and load the programs. On failure it closes the skeleton and raises an error."""
        with self._held.links.lock:  # a thread that closes it has to wait
            self._check_open()
            try:
                return self._load()
            except BaseException:
                self._held.close()
                raise

    def _load(self) -> LoadedT:
        held, spec = self._held, self._spec
        choices = self._choose()
        if self._uncovered is not None and any(p.core and self.programs[p.name].autoload for p in spec.programs):
            raise self._uncovered
        held.set_initial_values(spec, held.globals)
        with Capture(held.libbpf) as said:
            result = self._load_object(held)
            code = ctypes.get_errno()
            if result:
                loading = [program for program in spec.programs if self.programs[program.name].autoload]
                check_libbpf_is_new_enough(spec, held.libbpf, said.lines)
                raise load_error(held, spec, code or -result, said.lines, loading)
        held.btf = -1
        self._elf = b""
        autoattach = frozenset(item.name for item in (*self.programs, *self.maps) if item.autoattach)
        self._is_loaded = True
        _globals.end_all(held.globals.values(), "the skeleton is loaded; use that of what load() returned")
        held.globals.clear()
        for part in held.parts:
            part._close()
        held.parts.clear()
        return self._loaded_(held, spec, self._btf, autoattach, choices)  # type: ignore[no-any-return]

    def _load_object(self, held: ObjectHandle) -> int:
        """Have libbpf load the object. Returns libbpf's result."""
        for section in self._spec.sections:
            if section.arena:
                from . import arena  # few packages have one

                result, held.arena = arena.load_with_arena(held.libbpf, held.live(), held.find_map(section.arena))
                return int(result)
        return int(held.libbpf.bpf_object__load(held.live()))

    def _choose(self) -> tuple[Choice, ...]:
        """Decide the groups and optional programs, if there are any."""
        if not self._spec.groups and not self._spec.optional:
            return ()
        attaching = {program.name for program in self.programs if program.autoattach}
        chooser = _alternatives.Chooser(
            self._held, self._spec, open_again=self._open, attaching=attaching, uncovered=self._uncovered
        )
        return chooser.choose()

    def _open(self, held: ObjectHandle) -> None:
        """Make libbpf read the object."""
        btf = self._btf_to_hand_over()
        options = opts(OpenOpts, object_name=self._spec.name.encode(), kconfig=self._kconfig)
        if held.token:
            options.bpf_token_path = os.fsencode(held.token)
        if isinstance(btf, bytes):
            held.btf = _kernel.sealed_memfd("btf", btf)
            options.btf_custom_path = b"/proc/self/fd/%d" % held.btf
        elif btf is not None:
            options.btf_custom_path = os.fsencode(btf)
        held.open(self._elf, options)
        if held.libbpf.version < _globals.FLIPS_MMAPABLE:
            _globals.make_mappable(held.libbpf, held.live())

    def __enter__(self: SelfT) -> SelfT:
        opened: Any = self
        if opened._is_loaded or not opened._held.made:  # as in `Loaded`
            opened._check_open()
        return self

    def _absent_attribute(self, name: str) -> Any:
        if self._is_loaded and any(name == section.attribute for section in self._spec.sections):
            raise ClosedError(f"{self._spec.source} is loaded; use {name} of what load() returned")
        if hasattr(Loaded, name):
            state = "no longer: use that of what load() returned" if self._is_loaded else "yet: call load() first"
            raise UnknownNameError(f"{self!r} has no {name} {state}")
        return self._held.find_global(self, self._spec, name)

    def __repr__(self) -> str:
        state = "closed" if not self._held.pointer else "loaded" if self._is_loaded else "open"
        return f"<{type(self).__name__}: {state}>"

    def _check_open(self) -> None:
        self._held.live()
        if self._is_loaded:
            raise ClosedError(f"{self._spec.source} is loaded already; use what load() returned")

    def _choose_btf(self, bpf_dir: str, *, explicit: Union[str, bytes, None]) -> Optional[BtfChoice]:
        if not any(program.core for program in self._spec.programs):
            return None
        try:
            return _kernel.choose_btf(bpf_dir, self._spec.kernels, explicit=explicit)
        except KernelNotCoveredError as error:
            self._uncovered = error  # load() raises it if it still has to load a program that needs the BTF
            return None

    def _btf_to_hand_over(self) -> Union[str, bytes, None]:
        """The BTF for libbpf's relocations: a path, its bytes, or None to let it find the kernel's own."""
        if self._uncovered is not None:
            # libbpf insists on a BTF even if no program that is left needs one
            return _kernel.EMPTY_BTF
        if self._btf is None or self._btf.source == "kernel":
            return None
        return self._btf.path if self._btf.data is None else self._btf.data


class Skeleton(Generic["OpenedT", "LoadedT"]):
    """A BPF object in a package. `open()` it to set things before the load, or `run()` it at once."""

    _spec_: ClassVar[ObjectSpec]
    _opened_: ClassVar[Any]

    def __init__(self) -> None:
        name = type(self).__name__
        raise InvalidTypeError(f"{name}() is no skeleton: call {name}.open() to set it up first, or {name}.run()")

    @classmethod
    def open(
        cls,
        *,
        btf: Union[str, bytes, None] = None,
        libbpf: Optional[str] = None,
        kconfig: Optional[str] = None,
        token: Optional[str] = None,
    ) -> OpenedT:
        """Open the object for this machine's architecture.

        `btf` is this kernel's BTF, its path or its bytes, instead of the kernel's own or an embedded one; `libbpf` the
        path of a libbpf.so, instead of the system's; `kconfig` text overrides the kernel's configuration for `CONFIG_`
        externs; `token` is a BPF file system by which this process's user namespace may load programs (Linux 6.9,
        libbpf 1.4).
        """
        return cls._opened_(  # type: ignore[no-any-return]
            cls._spec_, btf=btf, libbpf=libbpf, kconfig=kconfig, token=token
        )

    @classmethod
    def pinned(cls, name: str, path: str) -> PinnedMap:
        """Open one of the skeleton's maps, by its name in C, from the path where another process pinned it."""
        for item in cls._spec_.maps:
            if item.name == name:
                return PinnedMap(_libbpf.load(libraries=cls._spec_.libraries), item, path)
        names = ", ".join(item.name for item in cls._spec_.maps)
        raise UnknownNameError(f"{cls._spec_.source} has no map {name!r}; it has {names}")

    @classmethod
    def run(
        cls,
        *,
        btf: Union[str, bytes, None] = None,
        libbpf: Optional[str] = None,
        kconfig: Optional[str] = None,
        token: Optional[str] = None,
    ) -> LoadedT:
        """Open, load and attach every program whose section name has a target."""
        loaded: Any = cls.open(btf=btf, libbpf=libbpf, kconfig=kconfig, token=token).load()
        try:
            loaded.attach()
        except BaseException:
            loaded.close()
            raise
        return loaded  # type: ignore[no-any-return]


class PinnedMap:
    """`with Skeleton.pinned(name, path) as map`: a map that another process pinned, without loading anything."""

    def __init__(self, library: Libbpf, item: MapSpec, path: str) -> None:
        self.map = make_map(library, pinned_shape(library, path, item.cls.types), item.name, item)

    def close(self) -> None:
        """Close the map; it stays pinned. Doing it twice is harmless."""
        self.map._close()

    def __enter__(self) -> Any:
        return self.map

    def __exit__(self, *_: object) -> None:
        self.close()


def _read_object(spec: ObjectSpec, bpf_dir: str) -> bytes:
    arch = running_name()
    if arch not in spec.objects:
        known = of_machine(arch) is not None
        remedy = f"Add {arch} to the package's `archs`" if known else "hatch-bpf compiles for no such machine"
        raise ArchitectureError(
            f"{spec.source}: the package holds BPF objects for {', '.join(spec.objects)}; this machine is "
            f"{os.uname().machine}. {remedy}"
        )
    name, digest = spec.objects[arch]
    return _kernel.read_verified(os.path.join(bpf_dir, name), digest)


def _check_struct_ops_are_known(spec: ObjectSpec, held: ObjectHandle) -> None:
    """Raise `LibbpfTooOldError` if libbpf has ignored `.struct_ops.link`."""
    for item in spec.maps:
        if item.cls is StructOps and not held.libbpf.bpf_object__find_map_by_name(held.pointer, item.name.encode()):
            held.libbpf.require((1, 2), f"{spec.source}: {item.name} in SEC('.struct_ops.link')")
