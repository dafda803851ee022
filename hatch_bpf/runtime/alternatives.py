"""Groups of programs or maps, whose first member that works here is used, and programs that may be left out.

Input: an object that libbpf has read, as the application has set it up. Output: the same object without what can't be
loaded here, and a `Choice` for every group and optional program. What works it tries on a second copy of the object; it
never looks at versions. An object without groups and optional programs tries nothing.
"""

from __future__ import annotations

import ctypes
import errno

from . import privileges
from .errors import AttachError, LoadError, PermissionDeniedError, permission_denied, reason, unprivileged
from .handle import ObjectHandle
from .libbpf.library import UprobeMultiOpts, opts
from .libbpf.messages import Capture, verifier_logs, without_optional_btf
from .load_errors import refusals_without_words
from .maps.shapes import BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PROG_ARRAY, BPF_MAP_TYPE_STRUCT_OPS, is_autocreated
from .plain_data import PlainData
from .programs.attaching import NoTargetError
from .programs.program import Program
from .sections import ATTACH_TYPES, AttachTypeUse, parse_section
from .structops import StructOps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from typing import Optional

    from .errors import BpfError
    from .libbpf.library import Libbpf
    from .spec import GroupSpec, MapSpec, ObjectSpec, ProgramSpec

_LINKS_OF_INTERFACES = ("BPF_TCX_INGRESS", "BPF_TCX_EGRESS", "BPF_NETKIT_PRIMARY", "BPF_NETKIT_PEER")
"""Attach types of links to interfaces. Kernels that lack such links still load the programs."""
NO_INTERFACE = 0x7FFFFFFF
_NOISE = ("failed to load object", "-- BEGIN ", "-- END ", "processed ", "permission error while running as root")
"""Starts of lines that only say that something failed."""


class Refusal(PlainData):
    """Why a member of a group, or an optional program, is not used."""

    name: str
    why: str
    """The name of the error number, and the last line of the verifier or of libbpf."""
    errno: int = 0

    def __repr__(self) -> str:
        return f"Refusal({self.name!r}, {self.why!r}, errno={self.errno})"


class Choice(PlainData):
    """The decision about a group or an optional program."""

    kind: str
    """`programs` or `maps`, for groups; `optional` for an optional program."""
    name: str
    """Name of the group or of the optional program."""
    chosen: Optional[str]
    """Name in C of the program or map that is used; None if there is none."""
    refused: tuple[Refusal, ...] = ()
    """The members that were not used, in their order."""

    def __repr__(self) -> str:
        return f"Choice({self.kind!r}, {self.name!r}, chosen={self.chosen!r}, refused={self.refused!r})"


class Chooser:
    """Decides the groups and optional programs of an object before its load."""

    def __init__(
        self,
        held: ObjectHandle,
        spec: ObjectSpec,
        *,
        open_again: Callable[[ObjectHandle], object],
        attaching: Collection[str],
        uncovered: Optional[BpfError],
    ) -> None:
        """`open_again` opens the same bytes in another object. Programs named in `attaching` will be attached to what
        their sections name. `uncovered` says why programs with CO-RE relocations can't be loaded here, if they can't.
        """
        self._held = held
        self._libbpf = held.libbpf
        self._spec = spec
        self._open_again = open_again
        self._attaching = attaching
        self._uncovered = uncovered
        self._programs = {program.name: program for program in spec.programs}
        members = (name for group in spec.groups if not group.of_maps for name in group.members)
        self._may_go = {*spec.optional, *members}
        """Programs that may be left out."""
        self._unmade: set[str] = set()
        """Maps that this kernel can't create; another member of their group replaces each."""

    def choose(self) -> tuple[Choice, ...]:
        """Decide all of them, and leave out of the object what is not to be loaded.

        Raises `LoadError` if no member of a group can be used.
        """
        map_refusals = {group.name: self._refused_maps(group) for group in self._spec.groups if group.of_maps}
        decided = {group.name: self._choose_program(group) for group in self._spec.groups if not group.of_maps}
        optional = [choice for name in self._spec.optional for choice in self._choose_optional(name)]
        self._leave_out_maps()
        for group in self._spec.groups:
            if group.of_maps:
                decided[group.name] = self._choose_map(group, map_refusals[group.name])
        return (*(decided[group.name] for group in self._spec.groups), *optional)

    # --- programs

    def _choose_program(self, group: GroupSpec) -> Choice:
        chosen, refused = _first_usable(group, self._try_program)
        if chosen is None:
            wanted = [self._programs[name] for name in group.members if self._is_wanted(name)]
            if self._uncovered is not None and wanted and all(program.core for program in wanted):
                raise self._uncovered
            _check_turned_off(self._spec, group, refused)
        for name in group.members:
            if name != chosen:
                self._turn_off(name)
        return Choice("programs", group.name, chosen, tuple(refused))

    def _choose_optional(self, name: str) -> Iterator[Choice]:
        if self._is_wanted(name):
            refusal = self._try_program(name)
            if refusal is not None:
                self._turn_off(name)
            yield Choice("optional", name, None if refusal else name, (refusal,) if refusal else ())

    def _is_wanted(self, name: str) -> bool:
        return bool(self._libbpf.bpf_program__autoload(self._held.find_program(name)))

    def _turn_off(self, name: str) -> None:
        self._libbpf.bpf_program__set_autoload(self._held.find_program(name), False)

    def _try_program(self, name: str) -> Optional[Refusal]:
        """Load a program alone with the maps that it uses and, if that does no harm, attach it."""
        if not self._is_wanted(name):
            return Refusal(name, "it is turned off (autoload is False)")
        if self._programs[name].core and self._uncovered is not None:
            return Refusal(name, str(self._uncovered).split("\n", 1)[0], errno=errno.ENOENT)
        from .maps.descriptors import ProgramArray  # few packages have alternatives; open() has imported it for those

        together = {name}
        if any(item.cls is ProgramArray and name in item.users for item in self._spec.maps):
            # the array may name programs, and libbpf insists that those are loaded
            together.update(n for n in self._programs if self._is_wanted(n) and n not in self._may_go)
        # for a struct_ops map libbpf insists on all its programs
        needed = self._with_inner(
            item.name
            for item in self._spec.maps
            if item.cls is not StructOps and (together.intersection(item.users) or self._is_unreferenced(item))
        )
        return self._try(name, together, needed)

    def _try_attach(self, trial: ObjectHandle, program: ProgramSpec) -> Optional[Refusal]:
        pointer = trial.find_program(program.name)
        section = parse_section(program.section)
        if section is None:
            return None
        if section.attach_type in _LINKS_OF_INTERFACES and section.attach_type_use == AttachTypeUse.ATTACH:
            fd = self._libbpf.bpf_program__fd(pointer)
            self._libbpf.bpf_link_create(fd, NO_INTERFACE, ATTACH_TYPES[section.attach_type], None)
            return _lacks_links(program.name, ctypes.get_errno(), known=errno.ENODEV)
        if section.attach_type == "BPF_TRACE_UPROBE_MULTI":
            return _lacks_links(program.name, self._attach_to_no_file(pointer), known=errno.EBADF)
        if section.only_watches and program.name in self._attaching:
            ready = Program(self._libbpf, pointer, program.name, program.section, links=trial.links)
            try:
                ready.attach()
            except NoTargetError:
                pass  # the application attaches it
            except (AttachError, PermissionDeniedError) as error:
                words = _missing_rights(error.errno, program.section) or "".join(str(error).rsplit("\n", 1)[1:]).strip()
                return _refusal(program.name, error.errno, "it loads, but can't be attached", words=words)
        return None

    def _attach_to_no_file(self, pointer: int) -> int:
        """Attach a program to functions of the root folder. Returns the error number."""
        options = opts(UprobeMultiOpts, offsets=(ctypes.c_ulong * 1)(), cnt=1)
        with Capture(self._libbpf):
            self._libbpf.bpf_program__attach_uprobe_multi(pointer, -1, b"/", None, ctypes.byref(options))
            return ctypes.get_errno()

    # --- maps

    def _refused_maps(self, group: GroupSpec) -> tuple[Refusal, ...]:
        """The members that precede the first one this kernel can create, and why it can't create them."""
        chosen, refused = _first_usable(group, self._try_map)
        if chosen is None:
            _check_turned_off(self._spec, group, refused)
        self._unmade.update(refusal.name for refusal in refused)
        return tuple(refused)

    def _try_map(self, name: str) -> Optional[Refusal]:
        if not is_autocreated(self._libbpf, self._held.find_map(name)):
            return Refusal(name, "it is turned off (autocreate is False)")
        return self._try(name, (), [name])

    def _choose_map(self, group: GroupSpec, refused: tuple[Refusal, ...]) -> Choice:
        """Choose the first member that can be created and is used by a program that will be loaded."""
        users = {item.name: item.users for item in self._spec.maps}
        left = [name for name in group.members if name not in self._unmade]
        used = [name for name in left if any(map(self._is_wanted, users[name]))]
        chosen = next(iter(used or left), None)
        before = left[: left.index(chosen)] if chosen else ()
        unused = [Refusal(name, "no program that is loaded uses it") for name in before]
        return Choice("maps", group.name, chosen, (*refused, *unused))

    def _leave_out_maps(self) -> None:
        """Leave out maps whose users are all left out, and maps that this kernel can't create."""
        stay = self._with_inner(
            item.name for item in self._spec.maps if self._is_used(item) or self._is_unreferenced(item)
        )
        for item in self._spec.maps:
            if item.name not in stay or item.name in self._unmade:
                _leave_out(self._libbpf, self._held.find_map(item.name))

    def _is_used(self, item: MapSpec) -> bool:
        return any(self._is_wanted(name) or name not in self._may_go for name in item.users)

    def _is_unreferenced(self, item: MapSpec) -> bool:
        """Whether no program uses the map and no map holds it: the application itself must want it."""
        return not item.users and not any(item.name in other.holds for other in self._spec.maps)

    def _with_inner(self, names: Iterable[str]) -> set[str]:
        """These maps and those that libbpf puts into them. Maps are nested only one level deep."""
        found = set(names)
        return found.union(*(item.holds for item in self._spec.maps if item.name in found))

    # --- both

    def _try(self, name: str, programs: Collection[str], maps: Collection[str]) -> Optional[Refusal]:
        """Try a program or a map in another object, together with these programs and maps."""
        trial = ObjectHandle(self._libbpf, self._spec.source)
        try:
            self._open_again(trial)
            refusal = self._try_load(trial, name, programs, maps)
            if refusal is None and name in programs:
                refusal = self._try_attach(trial, self._programs[name])
            return refusal
        finally:
            trial.close()

    def _try_load(
        self, trial: ObjectHandle, name: str, programs: Collection[str], maps: Collection[str]
    ) -> Optional[Refusal]:
        """Load only these programs and maps, with all settings of the real object."""
        for change in self._held.changes:
            change(trial)
        for program in self._spec.programs:
            self._libbpf.bpf_program__set_autoload(trial.find_program(program.name), program.name in programs)
        for item in self._spec.maps:
            pointer = trial.find_map(item.name)
            self._libbpf.bpf_map__set_pin_path(pointer, None)  # a trial must leave nothing behind
            if item.name not in maps or item.name in self._unmade:
                _leave_out(self._libbpf, pointer)
        trial.set_initial_values(self._spec, self._held.globals)
        with Capture(self._libbpf) as said:
            result = self._libbpf.bpf_object__load(trial.live())
            code = ctypes.get_errno()
            lines = said.lines
        if not result:
            return None
        code = code or -result
        # without any rights there is no way to find out what the kernel supports
        if code == errno.EPERM and unprivileged():
            raise permission_denied(f"{self._spec.source}: {name} can't be loaded", errno=code, lines=lines)
        words = _missing_rights(code, *(self._programs[name].section for name in programs))
        words = words or "; ".join(refusals_without_words(trial, self._spec, code, lines, programs))
        words = words or _last_words(without_optional_btf(lines))
        return _refusal(name, code, words=words)


def _first_usable(group: GroupSpec, attempt: Callable[[str], Optional[Refusal]]) -> tuple[Optional[str], list[Refusal]]:
    """The first member of a group that works, and why those before it do not."""
    refused: list[Refusal] = []
    for name in group.members:
        refusal = attempt(name)
        if refusal is None:
            return name, refused
        refused.append(refusal)
    return None, refused


def _refusal(name: str, code: int, what: str = "", *, words: str = "") -> Refusal:
    return Refusal(name, ": ".join(filter(None, (what, reason(code), words))), errno=code)


def _lacks_links(name: str, code: int, *, known: int) -> Optional[Refusal]:
    """Why a link can't be made, unless its error is `known`: a kernel that has such links looks for their target."""
    return None if code == known else _refusal(name, code, "it loads, but this kernel has no such links")


def _missing_rights(code: int, *sections: str) -> str:
    """The missing capabilities that may explain an error number, in words; empty if none is missing."""
    missing = privileges.lacking(sections) if code in (errno.EPERM, errno.EACCES) else []
    return f"this process lacks {', '.join(missing)}" if missing else ""


def _leave_out(libbpf: Libbpf, pointer: int) -> None:
    """Make libbpf leave out a map."""
    if libbpf.bpf_map__type(pointer) in (BPF_MAP_TYPE_PROG_ARRAY, BPF_MAP_TYPE_STRUCT_OPS):
        # libbpf would put programs even into a map that does not exist
        libbpf.bpf_map__set_type(pointer, BPF_MAP_TYPE_ARRAY)
    if libbpf.has("bpf_map__set_autocreate"):
        libbpf.bpf_map__set_autocreate(pointer, False)
        return
    # libbpf before 0.8 creates every map: make it one that every kernel has
    libbpf.bpf_map__set_type(pointer, BPF_MAP_TYPE_ARRAY)
    libbpf.bpf_map__set_map_flags(pointer, 0)
    libbpf.bpf_map__set_key_size(pointer, 4)
    libbpf.bpf_map__set_value_size(pointer, 4)
    libbpf.bpf_map__set_max_entries(pointer, 1)


def _last_words(lines: list[str]) -> str:
    """The last informative line of the verifier's log, or else of libbpf's messages."""
    logs = [log.split("\n") for _, log in verifier_logs(lines)]
    for line in reversed(logs[0] if logs else lines):
        if line.strip() and not line.startswith(_NOISE) and ": failed to load: " not in line:
            return line.strip()
    return ""


def _check_turned_off(spec: ObjectSpec, group: GroupSpec, refused: list[Refusal]) -> None:
    """Raise `LoadError` for a group without a usable member, unless the application has turned all of them off."""
    code = next((refusal.errno for refusal in reversed(refused) if refusal.errno), 0)
    if code:
        lines = "\n".join(f"  {refusal.name}: {refusal.why}" for refusal in refused)
        kind = "maps" if group.of_maps else "programs"
        message = f"{spec.source}: none of the {kind} of {group.name} can be used on this machine:\n{lines}"
        sections = [program.section for program in spec.programs if program.name in group.members]
        if privileges.lacking(sections):
            message += f"\n{privileges.why(sections)}"
        raise LoadError(message, errno=code, log=lines)


def explain(source: str, choices: Iterable[Choice], *, btf: str, libbpf: Libbpf) -> str:
    """Everything that was decided at a load, one line each."""
    lines = [
        f"{source}: loaded by libbpf {'.'.join(map(str, libbpf.version))}, {libbpf.path}",
        f"types: {btf}",
    ]
    for choice in choices:
        if choice.kind == "optional":
            lines.append(f"optional program {choice.name}: {'loaded' if choice.chosen else 'left out'}")
        else:
            lines.append(f"{choice.kind} {choice.name}: {choice.chosen or 'none'}")
        lines += [f"  {'' if choice.kind == 'optional' else f'not {r.name}: '}{r.why}" for r in choice.refused]
    return "\n".join(lines)
