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

from hatch_bpf import portability_reasons as because
from hatch_bpf.abstract_values import NON_NULL, OPAQUE, Settable, Value
from hatch_bpf.alternatives import NONE, Alternatives, of_object
from hatch_bpf.bpf_object import INSN_SIZE, Function, MapDef, ObjectModel, Variable
from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import CoreRelo, CoreReloKind
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo import Matcher, Resolution, Resolver, agree, patch_insn
from hatch_bpf.errors import RelocationError
from hatch_bpf.frozen_data import FrozenData
from hatch_bpf.kernel_features import KernelFeatures, Verifier, type_shape
from hatch_bpf.kernel_version import version_bounds
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.linked_program import LinkedProgram, RefersTo, link
from hatch_bpf.reachability import Code, Exposure, Facts, Reach, analyse
from hatch_bpf.sections import BTF_PREFIX, Target, parse_section
from hatch_bpf.verdicts import KernelReport, ProgramVerdict, Reason, Report, Verdict, Weight, decide

PROBE_READ_FALLBACKS = {112: 4, 113: 4, 114: 45, 115: 45}
"""probe_read_user, _kernel, _user_str and _kernel_str: libbpf calls probe_read and probe_read_str instead on kernels
without the first."""
GET_ATTACH_COOKIE = 174
FOR_EACH_MAP_ELEM = 164
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
            yield extern.name

    def check(
        self, kernel: Kernel, features: KernelFeatures, matcher: Resolver, minimized: Resolver | None
    ) -> list[ProgramVerdict]:
        outcomes = self._outcomes(matcher, minimized)
        maps = list(self._maps(features))
        unmade = self._unmade(maps)
        shared = [*self._struct_ops(features), *self._ksyms(features), *self._kconfig]
        externs = self._externs(kernel, features)
        verdicts = []
        for program in self.programs:
            own = [reason for name, reason in maps if name not in unmade and self._is_created(name, program)]
            verdicts.append(program.check(features, outcomes, externs, [*own, *shared], unmade))
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
                found = found.inner
            if not _is_sized(definition):
                yield definition.name, because.map_unsized(definition)

    def _struct_ops(self, features: KernelFeatures) -> Iterator[Reason]:
        for name in self._struct_ops_types:
            if not features.has_struct(name) or not features.has_struct(f"bpf_struct_ops_{name}"):
                yield because.struct_ops_missing(name)

    @cached_property
    def _struct_ops_types(self) -> tuple[str, ...]:
        """Names of the structs of its struct_ops maps, flavors off."""
        btf = self.obj.btf
        names = []
        for section in (".struct_ops", ".struct_ops.link"):
            for type_id in btf.find(section, t.Kind.DATASEC):
                data_sec = btf[type_id]
                for info in data_sec.variables if isinstance(data_sec, t.DataSec) else ():
                    var = btf[info.type_id]
                    if isinstance(var, t.Var):
                        names.append(btf.resolve(var.type_id)[1].name.split("___")[0])
        return tuple(dict.fromkeys(names))

    @cached_property
    def _kconfig(self) -> tuple[Reason, ...]:
        return tuple(because.kconfig_unknown(e.name) for e in self.obj.kconfig if e.name.startswith("CONFIG_"))

    def _ksyms(self, features: KernelFeatures) -> Iterator[Reason]:
        """Externs that libbpf looks for in the kernel before it loads any program."""
        for extern in self.obj.ksyms:
            kind = _ksym_kind(self.obj.btf, extern)
            if kind is not _Ksym.UNTYPED:
                yield because.typed_extern(extern.name, is_function=kind is _Ksym.FUNCTION)
                if not self._is_declared_so(extern, kind, features):
                    yield because.extern_differs(extern.name, is_function=kind is _Ksym.FUNCTION, weak=extern.weak)
            if extern.weak:
                continue
            if kind is _Ksym.FUNCTION and features.has_kfunc(extern.name) is False:
                yield because.kfunc_missing(extern.name)
            elif kind is _Ksym.VARIABLE and not features.has_variable(extern.name):
                yield because.ksym_missing(extern.name)
            elif kind is _Ksym.UNTYPED and not self._is_listed(extern.name, features):
                yield because.ksym_unknown(extern.name)

    def _is_declared_so(self, extern: Variable, kind: int, features: KernelFeatures) -> bool:
        """Whether libbpf takes a typed extern for what the kernel has under its name, if it has it."""
        own = self.obj.btf[extern.type_id]
        ask = features.function_shape if kind is _Ksym.FUNCTION else features.variable_shape
        there = ask(extern.name)
        declared = type_shape(self.obj.btf, own.type_id if isinstance(own, t.Func) else extern.type_id)
        return there is None or there == declared

    @staticmethod
    def _is_listed(name: str, features: KernelFeatures) -> bool:
        return features.has_variable(name) or bool(features.has_function(name))

    def _externs(self, kernel: Kernel, features: KernelFeatures) -> dict[str, Value]:
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
                values[name] = 0 if features.has_kfunc(name) is False else NON_NULL
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
        outcomes: Sequence[_Outcome],
        externs: Mapping[str, Value],
        shared: Sequence[Reason],
        unmade: Mapping[str, Reason],
    ) -> ProgramVerdict:
        """`shared` are reasons that the object gives; maps that are `unmade` count where the program uses them."""
        reasons = [*because.for_section(self.program, self.section, features), *shared]
        for _, index in self.relos:
            reasons += outcomes[index].reasons
        if features.has_helper(FOR_EACH_MAP_ELEM) is False:
            called = dict.fromkeys(self.linked.functions[index].name for index in self.linked.addresses.values())
            reasons += map(because.callbacks_missing, called)
        if self._kfunc_addresses and not features.has_kfunc_addresses:
            # seen before any instruction is walked, so that no guard helps; of a missing kfunc it is just 0
            reasons += [because.kfunc_address(name) for name in self._kfunc_addresses if features.has_function(name)]
        reasons += self._code_reasons(features, outcomes, externs, unmade)
        is_declared = self.program.name in self.alternatives.optional
        in_group = self.alternatives.group_of(self.program.name) is not None
        is_optional = is_declared or not (self.program.autoload or in_group)
        if is_optional:
            reasons.append(because.optional(self.program, is_declared=is_declared))
        verdict, ordered = decide(reasons)
        return ProgramVerdict(self.obj.path, self.program.name, verdict, ordered, is_optional)

    def _code_reasons(
        self,
        features: KernelFeatures,
        outcomes: Sequence[_Outcome],
        externs: Mapping[str, Value],
        unmade: Mapping[str, Reason],
    ) -> Iterator[Reason]:
        """What the kernel's verifier will say of the instructions it comes to."""
        hazards = self._hazards(features, outcomes, unmade)
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
        self, features: KernelFeatures, outcomes: Sequence[_Outcome], unmade: Mapping[str, Reason]
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
            if all(features.has_helper(helper) is False for helper in either):
                hazards[slot] = because.helper_missing(number, self._source(slot))
        for slot, name in self.linked.kfunc_calls.items():
            if features.has_kfunc(name) is False:
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


def _is_sized(definition: MapDef) -> bool:
    """Whether a map has what its type cannot be created without."""
    if definition.type in _SIZELESS_MAPS:
        return True
    return bool(definition.max_entries and (definition.value_size or definition.type != _STACK_TRACE))


_STACK_TRACE = 7
_SIZELESS_MAPS = frozenset({4, 19, 21, 24, 26, 28, 29, 32, 33})
"""Types whose max_entries may be 0: perf event arrays, which libbpf sizes, local storage, struct_ops and arenas."""


def _weight(exposure: Exposure) -> Weight:
    return Weight.FAILS if exposure.certain else Weight.CONDITIONAL


def _is_less(ideal: Exposure | None, exposure: Exposure) -> bool:
    """Whether a hazard would be reached less surely on a kernel with a newer verifier."""
    return ideal is None or (exposure.certain and not ideal.certain)
