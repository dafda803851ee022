"""One program on a kernel: what the verifier and libbpf will refuse of it.

Input: a program, and what was found of its object on the kernel: relocations, externs, maps. Output: a
`ProgramVerdict`. `program_walks.py` says which instructions are reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice, pairwise, starmap

from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.core_relo.source_lines import SourceLines
from hatch_bpf.objects.insns import MAX_CALL_FRAMES, InsnSet, insn_set, is_known_by_opcode
from hatch_bpf.objects.linked_program import LinkedProgram, RefersTo
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.objects.uapi import PARTS_OF_OTHERS, TRACING_PROGRAMS, MapType, helper, helper_name, helpers
from hatch_bpf.portability import reasons as because
from hatch_bpf.portability.context_check import refused_context_accesses
from hatch_bpf.portability.extern_check import FoundKsyms, KsymKind, ksym_kind
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.licenses import GPL_COMPATIBLE
from hatch_bpf.portability.map_helpers import ONLY, misused_maps, refused_map_accesses
from hatch_bpf.portability.own_functions import never_sets_r0, takes_pointer, unchecked_calls
from hatch_bpf.portability.program_walks import ProgramWalks
from hatch_bpf.portability.relocation_check import RelocationOutcome
from hatch_bpf.portability.section_check import check_section
from hatch_bpf.portability.sleeping import maps_not_for_sleepers, sleeping_calls
from hatch_bpf.portability.special_fields import fields_in_use, kept_from, without_field
from hatch_bpf.portability.verdicts import ProgramVerdict, Reason, Weight, decide
from hatch_bpf.project.alternatives import ObjectAlternatives
from hatch_bpf.runtime.sections import BTF_PREFIX, parse_section
from hatch_bpf.verifier.abilities import Verifier
from hatch_bpf.verifier.effort import Effort
from hatch_bpf.verifier.facts import Facts
from hatch_bpf.verifier.reach import Exposure, Reach
from hatch_bpf.verifier.values import Value

PROBE_READ_FALLBACKS = {
    helper("probe_read_user"): helper("probe_read"),
    helper("probe_read_kernel"): helper("probe_read"),
    helper("probe_read_user_str"): helper("probe_read_str"),
    helper("probe_read_kernel_str"): helper("probe_read_str"),
}
"""The helpers that libbpf calls instead on kernels without the first."""
FOR_TRACING = helpers("probe_read probe_read_str")
"""Helpers that only programs for tracing may call."""
ONCE_FOR_TRACING = frozenset({*PROBE_READ_FALLBACKS, helper("get_current_task")})
"""Helpers that only those could call before Linux 5.8; all programs may now."""
_MAY_TRACE = TRACING_PROGRAMS | PARTS_OF_OTHERS | {"TRACING", "LSM", "SYSCALL"}
"""Types of programs that may call what is for tracing, or may be part of what may."""
RETURN_BTF_POINTERS = helpers(
    "skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock "
    "skc_to_unix_sock skc_to_mptcp_sock get_current_task_btf sock_from_file task_pt_regs kptr_xchg"
)
"""Helpers that return pointers to types of the kernel's own BTF (RET_PTR_TO_BTF_ID): without it, the verifier says
`invalid return type`."""
TAIL_CALL = helper("tail_call")
MAX_INSNS = 4096
"""Instructions that a program has at most on kernels before Linux 5.2."""
FOR_EACH_MAP_ELEM = helper("for_each_map_elem")
"""The first helper that calls subprograms; a kernel without it (before Linux 5.13) refuses their addresses."""


@dataclass(frozen=True)
class ObjectOnKernel:
    """What was found of an object on a kernel."""

    features: KernelFeatures
    arch: str
    outcomes: Sequence[RelocationOutcome]
    """By the index of the relocation."""
    externs: Mapping[str, Value]
    ksyms: FoundKsyms
    unmade: Mapping[str, Reason]
    """Why the kernel cannot create maps that count only where a program uses them."""
    effort: Effort
    """What all programs of the object may take."""


class ProgramChecker:
    """One program."""

    def __init__(
        self,
        obj: ObjectModel,
        linked: LinkedProgram,
        lines: SourceLines,
        alternatives: ObjectAlternatives,
        *,
        lost_pointers: Sequence[tuple[str, str, range]] = (),
        is_unused: bool = False,
        libbpf: tuple[int, int] | None = None,
    ) -> None:
        """`lost_pointers` are those of the whole object. `is_unused` marks a struct_ops program that no map refers to.
        `libbpf` is the version that loads the program; None if any may."""
        self.obj = obj
        self.linked = linked
        self.lines = lines
        self.alternatives = alternatives
        self.program = linked.program
        self.section = parse_section(linked.program.section)
        self.relos = linked.core_relos
        self._lost_pointers = lost_pointers
        self._is_unused = is_unused
        self._libbpf = libbpf
        self.walks = ProgramWalks(obj, linked, self.section)

    @cached_property
    def _loaded(self) -> Mapping[RefersTo, Mapping[int, str]]:
        """For each kind of thing, the slots that load the address of one -> its name."""
        loaded: dict[RefersTo, dict[int, str]] = {to: {} for to in RefersTo}
        for slot, reference in self.linked.references.items():
            loaded[reference.to][slot] = reference.name
        return loaded

    @cached_property
    def _kfuncs(self) -> frozenset[str]:
        """Externs of the object that are kfuncs. If a program calls any other, libbpf refuses the object."""
        return frozenset(e.name for e in self.obj.ksyms if ksym_kind(self.obj.btf, e) is KsymKind.FUNCTION)

    @cached_property
    def _kfunc_addresses(self) -> tuple[str, ...]:
        """Kfuncs whose address it holds."""
        return tuple(dict.fromkeys(name for name in self._loaded[RefersTo.KSYM].values() if name in self._kfuncs))

    def check(self, here: ObjectOnKernel, shared: Sequence[Reason]) -> ProgramVerdict:
        """`shared` are reasons that the object gives."""
        features = here.features
        reasons = [*check_section(self.program, self.section, features, here.arch, self._libbpf), *shared]
        for _, index in self.relos:
            reasons += here.outcomes[index].reasons
        reasons += self._of_any_kernel
        reasons += self._refused_anywhere(features)
        reasons += self._refused_to_license(here.ksyms)
        if features.has_helper(FOR_EACH_MAP_ELEM) is False:
            called = dict.fromkeys(self.linked.functions[index].name for index in self.linked.addresses.values())
            reasons += map(because.callbacks_missing, called)
        if self._kfunc_addresses and not features.has_kfunc_addresses:
            # the kernel sees it before it walks any instruction, so no guard helps; a missing kfunc has the address 0
            held = (name for name in self._kfunc_addresses if here.ksyms.has_kfunc(name))
            reasons += map(because.kfunc_address, held)
        reasons += self._code_reasons(here)
        is_declared = self.program.name in self.alternatives.optional
        in_group = self.alternatives.group_of(self.program.name) is not None
        is_optional = is_declared or not (self.program.autoload or in_group)
        if is_optional:
            reasons.append(because.optional(self.program, is_declared=is_declared))
        verdict, ordered = decide(reasons)
        return ProgramVerdict(self.obj.path, self.program.name, verdict, ordered, is_optional)

    @cached_property
    def _of_any_kernel(self) -> tuple[Reason, ...]:
        """What is wrong with it whatever the kernel."""
        found = [because.struct_ops_unused(self.program)] if self._is_unused else []
        for slot, reference in self.linked.references.items():
            for section, variable, place in self._lost_pointers:
                if reference.to is RefersTo.DATA and reference.name == section and reference.offset in place:
                    found.append(because.pointer_lost(section, variable, self._source(slot)))
        indirect = (slot for slot, insn in enumerate(self.linked.insns) if insn.is_indirect_call)
        found += (because.indirect_call(self._source(slot)) for slot in islice(indirect, 1))
        if never_sets_r0(self.linked, self.section):
            found.append(because.returns_nothing())
        for kind in (MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE):
            names = dict.fromkeys(
                name for name in self._loaded[RefersTo.MAP].values() if self._map_types.get(name) == kind
            )
            found += (because.two_cgroup_storages(*pair, kind) for pair in islice(pairwise(names), 1))
        return tuple(found)

    @cached_property
    def _fields(self) -> Mapping[str, frozenset[str]]:
        return fields_in_use(self.linked, self.obj)

    def _refused_anywhere(self, features: KernelFeatures) -> Iterator[Reason]:
        """What an old kernel refuses wherever it is in the program, reached or not."""
        insns = self.linked.insns
        seen: set[InsnSet] = set()
        for slot, newer in self._newer.items():
            if newer in seen or features.has_insns(newer):
                continue
            # they share an opcode with atomic operations, so only a kernel without those refuses them at once
            is_refused_at_once = newer is InsnSet.ACQUIRE_RELEASE and not features.has_insns(InsnSet.ATOMIC)
            if is_refused_at_once or not is_known_by_opcode(insns[slot]):
                seen.add(newer)
                yield because.insns_missing(newer, self._source(slot), Weight.FAILS)
        if len(insns) > MAX_INSNS and not features.has_long_programs:
            yield because.too_long(len(insns), MAX_INSNS)
        if not features.has_subprograms:
            called = dict.fromkeys(self.linked.functions[index].name for index in self.linked.calls.values())
            yield from map(because.subprograms_missing, called)
        if self.linked.jumps_back and not features.has_loops and self.linked.loop is not None:
            yield because.loops_missing(self._source(self.linked.loop))
        if self.linked.depth is None or self.linked.depth > MAX_CALL_FRAMES:
            yield because.calls_too_deep(self.linked.depth, MAX_CALL_FRAMES)
        if not features.is_beyond_6_18:
            yield from starmap(because.field_not_for_tracing, kept_from(self.section, self._fields))
            unfit = maps_not_for_sleepers(self.linked, self.section, self._map_types)
            yield from starmap(because.map_not_for_sleepers, unfit)
        if self._global_pointers and not features.has_global_pointers:
            yield from map(because.global_pointer, self._global_pointers)
        if self._global_contexts and features.checks_globals_alone and not features.is_built_with_btf:
            yield from map(because.global_context, self._global_contexts)
        if self._loaded[RefersTo.KCONFIG] and not features.has_global_data:
            # libbpf before 1.4 takes guarded global variables out of a program, but not these
            slot, name = next(iter(self._loaded[RefersTo.KCONFIG].items()))
            yield because.kconfig_refused(name, self._source(slot))

    @cached_property
    def _is_gpl(self) -> bool:
        return self.obj.license in GPL_COMPATIBLE

    def _refused_to_license(self, ksyms: FoundKsyms) -> Iterator[Reason]:
        """What a kernel refuses to a program whose license is not compatible with the GPL, reached or not."""
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
        """Global functions that take pointers to anything but a context."""
        return tuple(name for name in self._globals if takes_pointer(self.obj.btf, name, to_context=False))

    @cached_property
    def _global_contexts(self) -> tuple[str, ...]:
        """Global functions that take the context."""
        return tuple(name for name in self._globals if takes_pointer(self.obj.btf, name, to_context=True))

    @cached_property
    def _globals(self) -> tuple[str, ...]:
        """Global functions that it calls."""
        return tuple(function.name for function in self.linked.functions[1:] if function.is_global)

    def _code_reasons(self, here: ObjectOnKernel) -> Iterator[Reason]:
        """What the kernel's verifier will refuse among the instructions that it reaches."""
        features, outcomes = here.features, here.outcomes
        hazards = self._hazards(here)
        type_ids = [
            (slot, index)
            for slot, index in self.relos
            if (resolution := outcomes[index].resolution) and resolution.kind is CoreReloKind.TYPE_ID_TARGET
        ]
        calls = () if features.is_built_with_btf else self.linked.helper_calls.items()
        needing_btf = [(slot, number) for slot, number in calls if number in RETURN_BTF_POINTERS]
        arguments = self.walks.arguments(features, here.effort)
        context = refused_context_accesses(self.linked, self.walks.accessed, self._relocated, self.section, features)
        returns, watched = self.walks.returns(features), self.walks.watched(features)
        is_suspect = hazards or type_ids or needing_btf or context or self.walks.context.moved or watched
        if not is_suspect and arguments is None and returns is None:
            return
        used = {name: here.externs[name] for name in self._extern_names if name in here.externs}
        facts = Facts(frozenset(hazards), {}, used, features.verifier, arguments, frozenset(context), returns, watched)
        walk = partial(self.walks.reach, here.outcomes, here.effort)
        reach = walk(facts)
        for slot, index in type_ids:
            resolution = outcomes[index].resolution
            if slot in reach.reached and resolution is not None:
                yield because.type_id_target(resolution.local, self._source(slot))
        for slot, number in needing_btf:
            if slot in reach.reached and slot not in reach.hazards:
                yield because.helper_needs_btf(number, self._source(slot))
        if not features.has_global_data:
            guarded = (slot for slot in self._loaded[RefersTo.DATA] if slot not in reach.hazards)
            yield from (because.global_data_guarded(self._source(slot)) for slot in islice(guarded, 1))
        if not reach.hazards:
            return
        ideal = reach if facts.verifier == Verifier() else walk(replace(facts, verifier=Verifier()))
        is_certain = all(exposure.certain for exposure in reach.hazards.values())
        as_built = reach if is_certain else walk(facts, as_built=True)
        weights = {slot: _weight(exposure) for slot, exposure in reach.hazards.items()}
        if reach.certain and Weight.FAILS not in weights.values():
            # each depends on a condition, but one of them is reached in any case
            weights = dict.fromkeys(weights, Weight.FAILS)
        for slot, exposure in reach.hazards.items():
            yield because.reached(
                hazards.get(slot) or self._found_on_the_way(slot, reach, features, context),
                weights[slot],
                exposure,
                as_built=as_built.hazards.get(slot),
                is_guarded=_is_less(ideal.hazards.get(slot), exposure),
            )

    def _hazards(self, here: ObjectOnKernel) -> dict[int, Reason]:
        """Slots that the verifier refuses, and why."""
        features, outcomes = here.features, here.outcomes
        hazards = dict(self._misused_maps)
        for slot, number in sleeping_calls(self.linked, self.section):
            hazards[slot] = because.helper_sleeps(number, self._source(slot))
        for slot, index in self.linked.addresses.items():
            if self.linked.functions[index].is_global:
                hazards[slot] = because.callback_not_static(self.linked.functions[index].name, self._source(slot))
        for slot, number, field in without_field(self.linked, self.obj, self.section, self._fields):
            hazards[slot] = because.field_unknown(number, field, self._source(slot))
        if features.checks_globals_alone and not features.is_beyond_6_18:
            for slot, name, fault in unchecked_calls(self.linked, self.obj.btf):
                hazards[slot] = because.global_function_refused(name, fault, self._source(slot))
        for slot, name in self._loaded[RefersTo.MAP].items():
            if name in here.unmade:
                hazards[slot] = replace(here.unmade[name], source=self._source(slot))
        for slot, index in self.relos:
            poison = outcomes[index].poison
            if outcomes[index].is_poisoned and poison is not None:
                hazards[slot] = poison
        for slot, number in self.linked.helper_calls.items():
            either = (number, PROBE_READ_FALLBACKS.get(number, number))
            if all(features.has_helper(one) is False for one in either):
                is_listed = features.lists_helper(number) is True
                hazards[slot] = because.helper_missing(number, self._source(slot), is_listed=is_listed)
            elif self._is_for_others(number, features):
                hazards[slot] = because.helper_of_tracing(number, self._source(slot))
            elif not self._is_gpl and features.is_gpl_only(number):
                called = f"{helper_name(number)}()"
                hazards[slot] = because.not_gpl(called, self.obj, self._source(slot), Weight.NOTE)
        tail_calls = [slot for slot, number in self.linked.helper_calls.items() if number == TAIL_CALL]
        if len(self.linked.functions) > 1 and tail_calls and not features.has_tail_calls_beside_subprograms(here.arch):
            hazards |= {slot: because.tail_call_refused(self._source(slot)) for slot in tail_calls}
        for slot, newer in self._newer.items():
            if is_known_by_opcode(self.linked.insns[slot]) and not features.has_insns(newer):
                hazards[slot] = because.insns_missing(newer, self._source(slot), Weight.NOTE)
        for slot, name in self.linked.kfunc_calls.items():
            if name in self._kfuncs and here.ksyms.has_kfunc(name) is False:
                hazards[slot] = because.kfunc_missing(name, self._source(slot))
        if not features.has_global_data:
            hazards |= {slot: because.global_data_missing(self._source(slot)) for slot in self._loaded[RefersTo.DATA]}
        return hazards

    @cached_property
    def _map_types(self) -> Mapping[str, int]:
        return {definition.name: definition.type for definition in self.obj.maps}

    @cached_property
    def _misused_maps(self) -> Mapping[int, Reason]:
        """Slots of calls, loads and stores that no kernel allows on their map."""
        maps = {definition.name: definition for definition in self.obj.maps}
        types = self._map_types
        refused = {
            slot: because.map_access_refused(name, flag, called, self._source(slot))
            for slot, name, flag, called in refused_map_accesses(self.linked, maps)
        }
        return refused | {
            slot: because.map_not_for_helper(name, types[name], number, ONLY.get(types[name], ()), self._source(slot))
            for slot, name, number in misused_maps(self.linked, types)
        }

    def _is_for_others(self, number: int, features: KernelFeatures) -> bool:
        """Whether a helper is for tracing programs, and this is no such program."""
        if self.section is None or self.section.program_type in _MAY_TRACE:
            return False
        return number in FOR_TRACING or (number in ONCE_FOR_TRACING and not features.probes_outside_tracing)

    @cached_property
    def _relocated(self) -> frozenset[int]:
        return frozenset(slot for slot, _ in self.relos)

    def _found_on_the_way(
        self, slot: int, reach: Reach, features: KernelFeatures, context: Mapping[int, Reason]
    ) -> Reason:
        """A hazard that only the walk finds."""
        if slot in reach.moved_context:
            return because.context_moved(self._source(slot))
        if slot in reach.refused_context:
            return replace(context[slot], source=self._source(slot))
        if slot in reach.refusals:
            return because.verifier_refuses(reach.refusals[slot], self._source(slot))
        section = self.section
        assert section is not None
        allowed = self.walks.returns(features)
        if slot in reach.refused_returns and allowed is not None:
            return because.return_refused(section, reach.refused_returns[slot], allowed, self._source(slot))
        has = features.arguments(BTF_PREFIX[section.target_kind] + section.target) or 0
        return because.argument_missing(section, reach.missing_arguments[slot], has, self._source(slot))

    @cached_property
    def _extern_names(self) -> tuple[str, ...]:
        return tuple(sorted({*self._loaded[RefersTo.KCONFIG].values(), *self._loaded[RefersTo.KSYM].values()}))

    def _source(self, slot: int) -> str:
        return self.lines.at(*self.linked.origin(slot))


def _weight(exposure: Exposure) -> Weight:
    return Weight.FAILS if exposure.certain else Weight.CONDITIONAL


def _is_less(ideal: Exposure | None, exposure: Exposure) -> bool:
    """Whether a newer verifier would not reach a hazard, or only on a condition."""
    return ideal is None or (exposure.certain and not ideal.certain)
