"""`ObjectModel`s x kernels -> `Report`: will each program load on each kernel, and if not, why, and what to do.

Input: BPF objects and, for each kernel, its full BTF and the minimized one that is to stand in for it. Output: a
`Report`.

A verdict is about one program, as if it alone of its object were loaded. What libbpf does for the whole object first
(creating maps, finding externs) counts for each of its programs. Verdicts and reasons are defined in `verdicts.py`, the
wording in `portability_reasons.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import CoreRelo, CoreReloKind
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.patch import patch_insn
from hatch_bpf.core_relo.resolve import Matcher, Resolution, Resolver, agree
from hatch_bpf.core_relo.spec import essential_name
from hatch_bpf.errors import RelocationError
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.version import version_bounds
from hatch_bpf.objects.insns import InsnSet, insn_set, is_known_by_opcode
from hatch_bpf.objects.linked_program import LinkedProgram, RefersTo, link
from hatch_bpf.objects.model import INSN_SIZE, Function, MapDef, ObjectModel, Variable
from hatch_bpf.objects.uapi import MapType, helper, helper_name
from hatch_bpf.portability import reasons as because
from hatch_bpf.portability.kernel_features import KernelFeatures, member_type, type_shape
from hatch_bpf.portability.licenses import GPL_COMPATIBLE
from hatch_bpf.portability.verdicts import KernelReport, ProgramVerdict, Reason, Report, Verdict, Weight, decide
from hatch_bpf.project.alternatives import NONE, Alternatives, of_object
from hatch_bpf.runtime.sections import BTF_PREFIX, Target, parse_section
from hatch_bpf.verifier.abilities import Verifier
from hatch_bpf.verifier.read_only_data import FrozenData
from hatch_bpf.verifier.values import NON_NULL, OPAQUE, Settable, Value
from hatch_bpf.verifier.walk import Code, Exposure, Facts, Reach, analyse

PROBE_READ_FALLBACKS = {
    helper("probe_read_user"): helper("probe_read"),
    helper("probe_read_kernel"): helper("probe_read"),
    helper("probe_read_user_str"): helper("probe_read_str"),
    helper("probe_read_kernel_str"): helper("probe_read_str"),
}
"""The helpers that libbpf calls instead on kernels without the first."""
GET_ATTACH_COOKIE = helper("get_attach_cookie")
TAIL_CALL = helper("tail_call")
MAX_INSNS = 4096
"""Instructions that a program has at most on kernels before Linux 5.2."""
FOR_EACH_MAP_ELEM = helper("for_each_map_elem")
"""The first helper that calls subprograms: a kernel without it cannot take their addresses (before Linux 5.13)."""


@dataclass(frozen=True)
class KernelTypes:
    """What is looked at of one kernel."""

    kernel: Kernel
    btf: Btf
    """All of its own BTF."""
    minimized: Btf | None = None
    """What is embedded for it; None to leave that out."""


def check(
    objects: Sequence[ObjectModel], kernels: Iterable[KernelTypes], *, alternatives: Alternatives = NONE
) -> Report:
    """The verdict for every program on every kernel. Raises `ObjectError` for code that no compiler makes."""
    checker = Checker(objects, alternatives)
    return Report(tuple(checker.check(kernel) for kernel in kernels))


class Checker:
    """Looks at objects once, and then at one kernel after another; what kernels have in common is worked out once."""

    def __init__(self, objects: Sequence[ObjectModel], alternatives: Alternatives = NONE) -> None:
        self._objects = [_ObjectChecker(obj, alternatives) for obj in objects]
        self._names = frozenset(name for obj in self._objects for name in obj.names())

    def check(self, kernel: KernelTypes) -> KernelReport:
        minimized = None if kernel.minimized is None else Matcher(kernel.minimized)
        features = KernelFeatures(kernel.btf)
        return KernelReport(kernel.kernel, self.verdicts(kernel.kernel, features, Matcher(kernel.btf), minimized))

    def verdicts(
        self, kernel: Kernel, features: KernelFeatures, matcher: Resolver, minimized: Resolver | None
    ) -> tuple[ProgramVerdict, ...]:
        """The same, of what is known of a kernel: these are all that it is asked, but for its version."""
        features.expect(self._names)
        return tuple(verdict for obj in self._objects for verdict in obj.check(kernel, features, matcher, minimized))


@dataclass(frozen=True)
class _Outcome:
    """What one relocation comes to on one kernel."""

    resolution: Resolution | None
    """None where libbpf refuses the object."""
    is_poisoned: bool
    reasons: tuple[Reason, ...] = ()
    """What is wrong with it whether or not its instruction is reached."""
    poison: Reason | None = None
    """Why its instruction is poisoned; the weight depends on how that is reached."""


@dataclass(frozen=True)
class _Ksyms:
    """What libbpf makes of an object's kernel symbols."""

    reasons: tuple[Reason, ...]
    kfuncs: tuple[tuple[str, bool | None], ...]
    """Names, flavors and all, and whether the kernel has them; None where its BTF does not tell."""

    def has_kfunc(self, name: str) -> bool | None:
        return dict(self.kfuncs).get(name, False)


def _with_any_libbpf(newer: ProgramVerdict, older: ProgramVerdict | None = None) -> ProgramVerdict:
    """One verdict of two that hang on the version of libbpf."""
    if older is None or newer == older:
        return newer
    fails = newer.verdict is older.verdict is Verdict.FAILS
    reasons = [reason for reason in newer.reasons if reason in older.reasons]
    for one, other, versions in ((newer, older, "1.3 and newer"), (older, newer, "before 1.3")):
        apart = (reason for reason in one.reasons if reason not in other.reasons)
        reasons += (because.with_libbpf(reason, versions, fails=fails) for reason in apart)
    verdict, ordered = decide(reasons)
    return replace(newer, verdict=verdict, reasons=ordered)


class _ObjectChecker:
    """One object."""

    def __init__(self, obj: ObjectModel, alternatives: Alternatives) -> None:
        self.obj = obj
        self.alternatives = of_object(obj, alternatives)
        self.relos = obj.core_relos()
        self.sources = [because.source_of(obj, section, relo) for section, relo in self.relos]
        self.programs = [_ProgramChecker(self, program) for program in obj.programs]

    def names(self) -> Iterator[str]:
        """Functions, tracepoints and variables that a kernel is asked about."""
        for program in self.programs:
            if program.section is not None and program.section.target:
                yield from because.names_of_target(program.section)
        for extern in self.obj.ksyms:
            yield from (extern.name, essential_name(extern.name))

    def check(
        self, kernel: Kernel, features: KernelFeatures, matcher: Resolver, minimized: Resolver | None
    ) -> list[ProgramVerdict]:
        outcomes = self._outcomes(matcher, minimized)
        maps = list(self._maps(features))
        unmade = self._unmade(maps)
        shared = [*self._struct_ops(features), *self._kconfig]
        by_libbpf = []
        for ksyms in dict.fromkeys(self._ksyms(features, with_flavors=newer) for newer in (True, False)):
            externs = self._externs(kernel, features, ksyms)
            verdicts = []
            for program in self.programs:
                own = [reason for name, reason in maps if name not in unmade and self._is_created(name, program)]
                given = [*own, *shared, *ksyms.reasons]
                verdicts.append(program.check(features, kernel.arch, outcomes, externs, ksyms, given, unmade))
            by_libbpf.append(verdicts)
        verdicts = [_with_any_libbpf(*each) for each in zip(*by_libbpf, strict=True)]
        return [self._in_its_group(verdict, verdicts) for verdict in verdicts]

    def _unmade(self, maps: Sequence[tuple[str, Reason]]) -> dict[str, Reason]:
        """Maps that the kernel can't create, and another of their group stands in for, with the reasons."""
        failing = {name: reason for name, reason in maps if reason.weight is Weight.FAILS}
        return {
            name: failing[name]
            for group in self.alternatives.groups
            if group.of_maps and not failing.keys() >= set(group.members)
            for name in group.members
            if name in failing
        }

    def _is_created(self, name: str, program: _ProgramChecker) -> bool:
        """Whether a map is, where a program is loaded and the others in question are not."""
        users = {other.program.name for other in self.programs if name in other.maps.values()}
        return not users or program.program.name in users or not users <= self.alternatives.questionable

    def _in_its_group(self, verdict: ProgramVerdict, verdicts: Sequence[ProgramVerdict]) -> ProgramVerdict:
        group = self.alternatives.group_of(verdict.program)
        if group is None or verdict.verdict is not Verdict.FAILS:
            return replace(verdict, group=group.name if group else "")
        by_name = {found.program: found.verdict for found in verdicts}
        loading = [name for name in group.members if by_name[name] is not Verdict.FAILS]
        stand_in = min(loading, key=lambda name: by_name[name] is not Verdict.LOADS, default="")
        told = (because.alternative(group.name, stand_in),) if stand_in else ()
        return replace(verdict, reasons=(*verdict.reasons, *told), group=group.name, stand_in=stand_in)

    def _outcomes(self, matcher: Resolver, minimized: Resolver | None) -> list[_Outcome]:
        relos = [relo for _, relo in self.relos]
        full = list(matcher.resolve_all(self.obj.btf, relos))
        small = list(minimized.resolve_all(self.obj.btf, relos)) if minimized else full
        return [
            self._outcome(index, on_full, on_small)
            for index, (on_full, on_small) in enumerate(zip(full, small, strict=True))
        ]

    def _outcome(
        self,
        index: int,
        full: Resolution | RelocationError,
        small: Resolution | RelocationError,
    ) -> _Outcome:
        source = self.sources[index]
        if isinstance(full, RelocationError):
            return _Outcome(None, False, (because.refused_relocation(full, source),))
        reasons = []
        if not agree(full, small):
            reasons.append(because.minimized_differs(full, source))
        if full.poisoned:
            poison = because.missing(full.local, source, type_is_there=full.type_is_there)
            return _Outcome(full, True, tuple(reasons), poison)
        if full.local_size == full.target_size and full.target_value <= 0x7FFF:
            return _Outcome(full, False, tuple(reasons))
        return self._patched(self.relos[index], full, reasons, source)

    def _patched(
        self, place: tuple[str, CoreRelo], resolution: Resolution, reasons: list[Reason], source: str
    ) -> _Outcome:
        """Whether a load or store can take a field's other size, or a big offset, is for the instruction to say."""
        section, relo = place
        function = self.obj.function_at(section, relo.insn_off)
        if function is None:
            return _Outcome(resolution, False, tuple(reasons))
        at = relo.insn_off - function.offset
        window = function.insns[at : at + 2 * INSN_SIZE]
        try:
            patched = patch_insn(window, 0, resolution)
        except RelocationError as error:
            return _Outcome(None, False, (*reasons, because.refused_relocation(error, source)))
        if resolution.fail_memsz_adjust and patched[0] != window[0]:
            return _Outcome(resolution, True, tuple(reasons), because.size_differs(resolution, source))
        return _Outcome(resolution, False, tuple(reasons))

    def _maps(self, features: KernelFeatures) -> Iterator[tuple[str, Reason]]:
        for definition in self.obj.maps:
            found: MapDef | None = definition
            while found is not None:
                if features.has_map_type(found.type) is False:
                    yield definition.name, because.map_type_missing(found)
                for flag in (1 << bit for bit in range(32) if found.map_flags >> bit & 1):
                    if not features.has_map_flag(flag):
                        yield definition.name, because.map_flag_missing(found, flag)
                lacking = _lacking(found)
                if lacking:
                    yield definition.name, because.map_unsized(found, lacking)
                elif found.type in _INDEXED_MAPS and found.key_size != _INDEX_SIZE:
                    yield definition.name, because.map_index_differs(found)
                found = found.inner

    def _struct_ops(self, features: KernelFeatures) -> Iterator[Reason]:
        for section, type_id in self._struct_ops_types:
            name = self.obj.btf.name(type_id).split("___")[0]
            if not features.has_struct(name) or not features.has_struct(f"bpf_struct_ops_{name}"):
                yield because.struct_ops_missing(name)
                continue
            if section == ".struct_ops.link" and not features.has_struct("bpf_struct_ops_link"):
                yield because.struct_ops_link_missing(name)
            struct = self.obj.btf[type_id]
            for member in struct.members if isinstance(struct, t.Struct) else ():
                there = features.member_type(name, member.name)
                if there is None:
                    yield because.struct_ops_member_missing(name, member.name)
                elif there != member_type(self.obj.btf, member.type_id):
                    yield because.struct_ops_member_differs(name, member.name)

    @cached_property
    def _struct_ops_types(self) -> tuple[tuple[str, int], ...]:
        """Sections of its struct_ops maps, and the ids of their types."""
        btf = self.obj.btf
        found = []
        for section in (".struct_ops", ".struct_ops.link"):
            for type_id in btf.find(section, t.Kind.DATASEC):
                data_sec = btf[type_id]
                for info in data_sec.variables if isinstance(data_sec, t.DataSec) else ():
                    var = btf[info.type_id]
                    if isinstance(var, t.Var):
                        found.append((section, btf.resolve(var.type_id)[0]))
        return tuple(dict.fromkeys(found))

    @cached_property
    def _kconfig(self) -> tuple[Reason, ...]:
        return tuple(because.kconfig_unknown(e.name) for e in self.obj.kconfig if e.name.startswith("CONFIG_"))

    def _ksyms(self, features: KernelFeatures, *, with_flavors: bool) -> _Ksyms:
        """Externs that libbpf looks for in the kernel before it loads any program.

        `with_flavors` is how libbpf 1.3 and newer do it: a kfunc's name may have a flavor, and a weak kfunc of another
        type than the kernel's counts as missing.
        """
        reasons = []
        kfuncs = []
        for extern in self.obj.ksyms:
            kind = _ksym_kind(self.obj.btf, extern)
            is_function = kind is _Ksym.FUNCTION
            name = essential_name(extern.name) if is_function and with_flavors else extern.name
            if is_function:
                is_there = features.has_kfunc(name)
            elif kind is _Ksym.VARIABLE:
                is_there = features.has_variable(name)
            else:
                is_there = self._is_listed(name, features)
            if kind is not _Ksym.UNTYPED:
                reasons.append(because.typed_extern(extern.name, is_function=is_function))
                if not self._is_declared_so(extern, name, kind, features):
                    if is_function and with_flavors and extern.weak:
                        is_there = False
                    else:
                        reasons.append(because.extern_differs(extern.name, is_function=is_function))
            if is_function:
                kfuncs.append((extern.name, is_there))
            if extern.weak or is_there is not False:
                continue
            if is_function:
                reasons.append(because.kfunc_missing(extern.name))
            elif kind is _Ksym.VARIABLE:
                reasons.append(because.ksym_missing(extern.name))
            else:
                reasons.append(because.ksym_unknown(extern.name))
        return _Ksyms(tuple(reasons), tuple(kfuncs))

    def _is_declared_so(self, extern: Variable, name: str, kind: int, features: KernelFeatures) -> bool:
        """Whether libbpf takes a typed extern for what the kernel has under a name, if it has it."""
        own = self.obj.btf[extern.type_id]
        ask = features.function_shape if kind is _Ksym.FUNCTION else features.variable_shape
        there = ask(name)
        declared = type_shape(self.obj.btf, own.type_id if isinstance(own, t.Func) else extern.type_id)
        return there is None or there == declared

    @staticmethod
    def _is_listed(name: str, features: KernelFeatures) -> bool:
        return features.has_variable(name) or bool(features.has_function(name))

    def _externs(self, kernel: Kernel, features: KernelFeatures, ksyms: _Ksyms) -> dict[str, Value]:
        """What a program reads from its externs on this kernel."""
        values: dict[str, Value] = {}
        for extern in self.obj.kconfig:
            name = extern.name
            value: Value = Settable(frozenset({name}))
            if name == "LINUX_KERNEL_VERSION":
                bounds = version_bounds(kernel)
                if bounds is not None:
                    low, high = bounds
                    value = low if low == high else Settable(frozenset({name}), low, high)
            elif name == "LINUX_HAS_BPF_COOKIE":
                has_cookie = features.has_helper(GET_ATTACH_COOKIE)
                value = value if has_cookie is None else int(has_cookie)
            values[name] = value
        for extern in self.obj.ksyms:
            name, kind = extern.name, _ksym_kind(self.obj.btf, extern)
            if kind is _Ksym.FUNCTION:
                values[name] = 0 if ksyms.has_kfunc(name) is False else NON_NULL
            elif kind is _Ksym.VARIABLE:
                values[name] = None if features.has_variable(name) else 0
            else:
                values[name] = NON_NULL if self._is_listed(name, features) else Settable(frozenset({name}))
        return values


class _Ksym:
    """How an extern of .ksyms is declared."""

    FUNCTION = 0
    VARIABLE = 1
    UNTYPED = 2


class _ProgramChecker:
    """One program."""

    def __init__(self, parent: _ObjectChecker, program: Function) -> None:
        self.obj = parent.obj
        self.alternatives = parent.alternatives
        self.program = program
        self.section = parse_section(program.section)
        self.linked: LinkedProgram = link(parent.obj, program)
        self.relos: list[tuple[int, int]] = []
        """Slot, and index in the object's relocations."""
        for index, (section, relo) in enumerate(parent.relos):
            slot = self.linked.slot(section, relo.insn_off)
            if slot is not None:
                self.relos.append((slot, index))
        self._reaches: dict[tuple[object, ...], Reach] = {}

    @cached_property
    def code(self) -> Code:
        return Code(self.linked, FrozenData(self.obj).read)

    @cached_property
    def code_as_built(self) -> Code:
        return Code(self.linked, FrozenData(self.obj, as_built=True).read)

    @cached_property
    def maps(self) -> Mapping[int, str]:
        """Slots that load a map -> the map's name."""
        return {slot: r.name for slot, r in self.linked.references.items() if r.to is RefersTo.MAP}

    @cached_property
    def _global_data(self) -> tuple[int, ...]:
        """Slots that load the address of a global variable or kconfig extern."""
        kinds = (RefersTo.DATA, RefersTo.KCONFIG)
        return tuple(slot for slot, reference in self.linked.references.items() if reference.to in kinds)

    @cached_property
    def _kfunc_addresses(self) -> tuple[str, ...]:
        """Kfuncs whose address it holds."""
        kfuncs = {extern.name for extern in self.obj.ksyms if _ksym_kind(self.obj.btf, extern) is _Ksym.FUNCTION}
        used = (r.name for r in self.linked.references.values() if r.to is RefersTo.KSYM and r.name in kfuncs)
        return tuple(dict.fromkeys(used))

    def check(
        self,
        features: KernelFeatures,
        arch: str,
        outcomes: Sequence[_Outcome],
        externs: Mapping[str, Value],
        ksyms: _Ksyms,
        shared: Sequence[Reason],
        unmade: Mapping[str, Reason],
    ) -> ProgramVerdict:
        """`shared` are reasons that the object gives; maps that are `unmade` count where the program uses them."""
        reasons = [*because.for_section(self.program, self.section, features, arch), *shared]
        for _, index in self.relos:
            reasons += outcomes[index].reasons
        reasons += self._refused_anywhere(features)
        reasons += self._refused_to_license(ksyms)
        if features.has_helper(FOR_EACH_MAP_ELEM) is False:
            called = dict.fromkeys(self.linked.functions[index].name for index in self.linked.addresses.values())
            reasons += map(because.callbacks_missing, called)
        if self._kfunc_addresses and not features.has_kfunc_addresses:
            # seen before any instruction is walked, so that no guard helps; of a missing kfunc it is just 0
            held = (name for name in self._kfunc_addresses if ksyms.has_kfunc(name))
            reasons += map(because.kfunc_address, held)
        reasons += self._code_reasons(features, arch, outcomes, externs, ksyms, unmade)
        is_declared = self.program.name in self.alternatives.optional
        in_group = self.alternatives.group_of(self.program.name) is not None
        is_optional = is_declared or not (self.program.autoload or in_group)
        if is_optional:
            reasons.append(because.optional(self.program, is_declared=is_declared))
        verdict, ordered = decide(reasons)
        return ProgramVerdict(self.obj.path, self.program.name, verdict, ordered, is_optional)

    def _refused_anywhere(self, features: KernelFeatures) -> Iterator[Reason]:
        """What an old kernel refuses wherever it is in the program, reached or not."""
        insns = self.linked.insns
        told: set[InsnSet] = set()
        for slot, newer in self._newer.items():
            if newer in told or features.has_insns(newer):
                continue
            # these have the opcode of atomic operations, which counts for kernels that know such
            is_refused_at_once = newer is InsnSet.ACQUIRE_RELEASE and not features.has_insns(InsnSet.ATOMIC)
            if is_refused_at_once or not is_known_by_opcode(insns[slot]):
                told.add(newer)
                yield because.insns_missing(newer, self._source(slot), Weight.FAILS)
        if len(insns) > MAX_INSNS and not features.has_long_programs:
            yield because.too_long(len(insns), MAX_INSNS)
        if self.linked.jumps_back and not features.has_loops and self.linked.loop is not None:
            yield because.loops_missing(self._source(self.linked.loop))
        if self._global_pointers and not features.has_global_pointers:
            yield from map(because.global_pointer, self._global_pointers)

    @cached_property
    def _is_gpl(self) -> bool:
        return self.obj.license in GPL_COMPATIBLE

    def _refused_to_license(self, ksyms: _Ksyms) -> Iterator[Reason]:
        """What a kernel refuses to a program that is not compatible with the GPL, reached or not."""
        if self._is_gpl:
            return
        if self.section is not None and self.section.program_type in ("LSM", "STRUCT_OPS"):
            yield because.not_gpl(f'SEC("{self.program.section_def}")', self.obj, "", Weight.FAILS)
        for slot, name in self.linked.kfunc_calls.items():
            if ksyms.has_kfunc(name):
                yield because.not_gpl(f"kfunc {name}()", self.obj, self._source(slot), Weight.FAILS)

    @cached_property
    def _newer(self) -> Mapping[int, InsnSet]:
        """Slots of instructions that not every kernel knows."""
        found = ((slot, insn_set(insn)) for slot, insn in enumerate(self.linked.insns))
        return {slot: newer for slot, newer in found if newer is not None}

    @cached_property
    def _global_pointers(self) -> tuple[str, ...]:
        """Global functions that take pointers to something else than a context."""
        called = (function for function in self.linked.functions[1:] if function.is_global)
        return tuple(function.name for function in called if _takes_pointer(self.obj.btf, function.name))

    def _code_reasons(
        self,
        features: KernelFeatures,
        arch: str,
        outcomes: Sequence[_Outcome],
        externs: Mapping[str, Value],
        ksyms: _Ksyms,
        unmade: Mapping[str, Reason],
    ) -> Iterator[Reason]:
        """What the kernel's verifier will say of the instructions it comes to."""
        hazards = self._hazards(features, arch, outcomes, ksyms, unmade)
        type_ids = [
            (slot, index)
            for slot, index in self.relos
            if (resolution := outcomes[index].resolution) and resolution.relo.kind is CoreReloKind.TYPE_ID_TARGET
        ]
        arguments = self._arguments(features)
        if not hazards and not type_ids and arguments is None:
            return
        verifier = features.verifier
        walk = partial(self._reach, frozenset(hazards), outcomes, externs, arguments)
        reach = walk(verifier)
        for slot, index in type_ids:
            resolution = outcomes[index].resolution
            if slot in reach.reached and resolution is not None:
                yield because.type_id_target(resolution.local, self._source(slot))
        if not reach.hazards:
            return
        ideal = reach
        if verifier != Verifier():
            ideal = walk(Verifier())
        as_built = reach
        if any(not exposure.certain for exposure in reach.hazards.values()):
            as_built = walk(verifier, as_built=True)
        weights = {slot: _weight(exposure) for slot, exposure in reach.hazards.items()}
        if reach.certain and Weight.FAILS not in weights.values():
            # each alone hangs on a condition, but one of them is met in any case
            weights = dict.fromkeys(weights, Weight.FAILS)
        for slot, exposure in reach.hazards.items():
            yield because.reached(
                hazards[slot] if slot in hazards else self._argument_missing(slot, reach, features),
                weights[slot],
                exposure,
                as_built=as_built.hazards.get(slot),
                is_guarded=_is_less(ideal.hazards.get(slot), exposure),
            )

    def _hazards(
        self,
        features: KernelFeatures,
        arch: str,
        outcomes: Sequence[_Outcome],
        ksyms: _Ksyms,
        unmade: Mapping[str, Reason],
    ) -> dict[int, Reason]:
        """Slots that the verifier refuses, and why."""
        hazards: dict[int, Reason] = {}
        for slot, name in self.maps.items():
            if name in unmade:
                hazards[slot] = replace(unmade[name], source=self._source(slot))
        for slot, index in self.relos:
            poison = outcomes[index].poison
            if outcomes[index].is_poisoned and poison is not None:
                hazards[slot] = poison
        for slot, number in self.linked.helper_calls.items():
            either = (number, PROBE_READ_FALLBACKS.get(number, number))
            if all(features.has_helper(one) is False for one in either):
                hazards[slot] = because.helper_missing(number, self._source(slot))
            elif not self._is_gpl and features.is_gpl_only(number):
                called = f"{helper_name(number)}()"
                hazards[slot] = because.not_gpl(called, self.obj, self._source(slot), Weight.NOTE)
        tail_calls = [slot for slot, number in self.linked.helper_calls.items() if number == TAIL_CALL]
        if len(self.linked.functions) > 1 and tail_calls and not features.has_tail_calls_beside_subprograms(arch):
            hazards |= {slot: because.tail_call_refused(self._source(slot)) for slot in tail_calls}
        for slot, newer in self._newer.items():
            if is_known_by_opcode(self.linked.insns[slot]) and not features.has_insns(newer):
                hazards[slot] = because.insns_missing(newer, self._source(slot), Weight.NOTE)
        for slot, name in self.linked.kfunc_calls.items():
            if ksyms.has_kfunc(name) is False:
                hazards[slot] = because.kfunc_missing(name, self._source(slot))
        if not features.has_global_data:
            for slot in self._global_data:
                hazards[slot] = because.global_data_missing(self._source(slot))
        return hazards

    def _reach(
        self,
        hazards: frozenset[int],
        outcomes: Sequence[_Outcome],
        externs: Mapping[str, Value],
        arguments: int | None,
        verifier: Verifier,
        *,
        as_built: bool = False,
    ) -> Reach:
        """The walk, done once for all kernels on which it goes the same way.

        Offsets of fields differ from kernel to kernel and rarely decide a branch, so they are kept back first.
        """
        immediates: dict[int, Value] = {}
        offsets: dict[int, Value] = {}
        for slot, index in self.relos:
            resolution = outcomes[index].resolution
            if resolution is None or slot in hazards:
                continue
            if resolution.relo.kind in _PLACES:
                offsets[slot] = resolution.target_value
            else:
                immediates[slot] = resolution.target_value
        used = {name: externs[name] for name in self._extern_names if name in externs}
        kept_back = {**immediates, **dict.fromkeys(offsets, OPAQUE)}
        reach = self._walk(Facts(hazards, kept_back, used, verifier, arguments), as_built=as_built)
        if reach.depends_on_opaque:
            reach = self._walk(Facts(hazards, {**immediates, **offsets}, used, verifier, arguments), as_built=as_built)
        return reach

    def _walk(self, facts: Facts, *, as_built: bool) -> Reach:
        immediates, externs = tuple(facts.immediates.items()), tuple(facts.externs.items())
        key = (facts.hazards, immediates, externs, facts.verifier, facts.arguments, as_built)
        if key not in self._reaches:
            self._reaches[key] = analyse(self.code_as_built if as_built else self.code, facts)
        return self._reaches[key]

    def _arguments(self, features: KernelFeatures) -> int | None:
        """How many arguments a tracing program may read, if it reads others too; None where all is well or unknown."""
        section = self.section
        if section is None or not section.target or section.module or section.target_kind not in _WITH_ARGUMENTS:
            return None
        if not self._read_arguments:
            return None
        count = features.arguments(BTF_PREFIX[section.target_kind] + section.target)
        if count is None:
            return None
        # behind the arguments is what the function returned
        count += section.attach_type not in _BEFORE_RETURN
        return count if max(self._read_arguments) >= count else None

    @cached_property
    def _read_arguments(self) -> frozenset[int]:
        """Which arguments the program reads on any kernel: an upper bound, got by leaving all relocated values open."""
        open_values: dict[int, Value] = {slot: None for slot, _ in self.relos}
        blind = Verifier(reads_frozen_maps=False, skips_uncalled_globals=False)
        reach = analyse(self.code, Facts(frozenset(), open_values, {}, blind, arguments=0))
        return frozenset(reach.missing_arguments.values())

    def _argument_missing(self, slot: int, reach: Reach, features: KernelFeatures) -> Reason:
        section = self.section
        assert section is not None
        has = features.arguments(BTF_PREFIX[section.target_kind] + section.target) or 0
        return because.argument_missing(section, reach.missing_arguments[slot], has, self._source(slot))

    @cached_property
    def _extern_names(self) -> tuple[str, ...]:
        kinds = (RefersTo.KCONFIG, RefersTo.KSYM)
        return tuple(sorted({r.name for r in self.linked.references.values() if r.to in kinds}))

    def _source(self, slot: int) -> str:
        return because.source_at(self.obj, *self.linked.origin(slot))


_WITH_ARGUMENTS = (Target.BTF_FUNCTION, Target.BTF_TRACEPOINT)
_BEFORE_RETURN = ("BPF_TRACE_FENTRY", "BPF_TRACE_RAW_TP")
"""Attach types of tracing programs that run when there is no return value yet."""
_PLACES = frozenset({CoreReloKind.FIELD_BYTE_OFFSET, CoreReloKind.TYPE_ID_LOCAL, CoreReloKind.TYPE_ID_TARGET})
"""Relocations whose values say where or which, and hardly ever decide a branch."""


def _ksym_kind(btf: Btf, extern: Variable) -> int:
    if isinstance(btf[extern.type_id], (t.Func, t.FuncProto)):
        return _Ksym.FUNCTION
    _, resolved = btf.resolve(extern.type_id)
    return _Ksym.UNTYPED if isinstance(resolved, t.Void) else _Ksym.VARIABLE


def _lacking(definition: MapDef) -> list[str]:
    """Which sizes a map lacks that its type cannot be created without."""
    needed = {
        "key_size": definition.key_size or definition.type in _KEYLESS_MAPS,
        "value_size": definition.value_size or definition.type in _VALUELESS_MAPS,
        "max_entries": definition.max_entries or definition.type in _COUNTLESS_MAPS,
    }
    return [name for name, is_there in needed.items() if not is_there]


def _takes_pointer(btf: Btf, name: str) -> bool:
    """Whether a function of an object has an argument that points to anything but a program's context."""
    for type_id in btf.find(name, t.Kind.FUNC):
        func = btf[type_id]
        proto = btf[func.type_id] if isinstance(func, t.Func) else None
        for param in proto.params if isinstance(proto, t.FuncProto) else ():
            _, pointer = btf.resolve(param.type_id)
            if isinstance(pointer, t.Ptr):
                _, target = btf.resolve(pointer.type_id)
                if target.name not in _CONTEXTS:
                    return True
    return False


_CONTEXTS = frozenset({
    "__sk_buff", "xdp_md", "bpf_sock", "bpf_sock_addr", "bpf_sock_ops", "sk_msg_md", "sk_reuseport_md", "bpf_sk_lookup",
    "bpf_sysctl", "bpf_sockopt", "bpf_cgroup_dev_ctx", "pt_regs", "user_pt_regs", "bpf_perf_event_data",
    "bpf_raw_tracepoint_args",
})  # fmt: skip
"""Structs that a kernel knows as the context of some type of program."""
_KEYLESS_MAPS = frozenset({
    MapType.QUEUE, MapType.STACK, MapType.STRUCT_OPS, MapType.RINGBUF, MapType.BLOOM_FILTER, MapType.USER_RINGBUF,
    MapType.ARENA,
})  # fmt: skip
"""Types whose maps have no keys, or get them from libbpf: queues, stacks, struct_ops, ring buffers, blooms, arenas."""
_VALUELESS_MAPS = frozenset({
    MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS, MapType.STRUCT_OPS, MapType.RINGBUF, MapType.USER_RINGBUF,
    MapType.ARENA,
})  # fmt: skip
"""Types whose maps have no values, or get them from libbpf, as maps of maps do."""
_COUNTLESS_MAPS = frozenset({
    MapType.PERF_EVENT_ARRAY, MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE, MapType.SK_STORAGE,
    MapType.STRUCT_OPS, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE, MapType.ARENA,
})  # fmt: skip
"""Types whose max_entries may be 0: perf event arrays, which libbpf sizes, local storage, struct_ops and arenas."""
_INDEXED_MAPS = frozenset({
    MapType.ARRAY, MapType.PROG_ARRAY, MapType.PERF_EVENT_ARRAY, MapType.PERCPU_ARRAY, MapType.STACK_TRACE,
    MapType.CGROUP_ARRAY, MapType.ARRAY_OF_MAPS, MapType.DEVMAP, MapType.SOCKMAP, MapType.CPUMAP, MapType.XSKMAP,
    MapType.REUSEPORT_SOCKARRAY, MapType.DEVMAP_HASH,
})  # fmt: skip
"""Types whose keys are indices."""
_INDEX_SIZE = 4


def _weight(exposure: Exposure) -> Weight:
    return Weight.FAILS if exposure.certain else Weight.CONDITIONAL


def _is_less(ideal: Exposure | None, exposure: Exposure) -> bool:
    """Whether a hazard would be reached less surely on a kernel with a newer verifier."""
    return ideal is None or (exposure.certain and not ideal.certain)
