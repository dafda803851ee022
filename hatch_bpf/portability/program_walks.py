"""The walks through one program: what each starts from on a kernel, and which can be spared.

Input: a program; a kernel's features and relocations. Output: what the program may do that the kernel perhaps refuses,
and what the kernel's verifier reaches of it. A walk is done once for all kernels on which it goes the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.objects.linked_program import LinkedProgram
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.portability.context_check import accessed_fields, has_numbers_only, packet_fields
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.map_helpers import map_sizes
from hatch_bpf.portability.own_functions import passed_values
from hatch_bpf.portability.relocation_check import RelocationOutcome
from hatch_bpf.portability.return_check import allowed_returns, may_return_others
from hatch_bpf.runtime.sections import BTF_PREFIX, ProgramSection, Target
from hatch_bpf.verifier.abilities import Verifier
from hatch_bpf.verifier.code import Code, Surroundings
from hatch_bpf.verifier.context_access import ContextAccesses, context_accesses
from hatch_bpf.verifier.effort import Effort
from hatch_bpf.verifier.facts import Facts, VerifierRefusal
from hatch_bpf.verifier.reach import Reach
from hatch_bpf.verifier.read_only_data import FrozenData
from hatch_bpf.verifier.suspects import (
    accesses_at_variable_offsets,
    calls_with_memory,
    passed_from_elsewhere,
    reads_of_stack,
    sized_by_numbers,
    uses_of_reserved_space,
)
from hatch_bpf.verifier.values import OPAQUE, Value
from hatch_bpf.verifier.walk import analyse

_RAW = frozenset({"RAW_TRACEPOINT", "RAW_TRACEPOINT_WRITABLE", "TRACING"})
"""Types of programs whose bpf_get_stack() counts as one that reads its buffer on old kernels."""
_WITH_ARGUMENTS = (Target.BTF_FUNCTION, Target.BTF_TRACEPOINT)
_BEFORE_RETURN = ("BPF_TRACE_FENTRY", "BPF_TRACE_RAW_TP")
"""Attach types of tracing programs that run when there is no return value yet."""
_PLACES = frozenset({CoreReloKind.FIELD_BYTE_OFFSET, CoreReloKind.TYPE_ID_LOCAL, CoreReloKind.TYPE_ID_TARGET})
"""Relocations whose values are places or ids, which hardly ever decide a branch."""


class ProgramWalks:
    """One program, walked for one kernel after another."""

    def __init__(self, obj: ObjectModel, linked: LinkedProgram, section: ProgramSection | None) -> None:
        self.obj = obj
        self.linked = linked
        self.section = section
        self.relos = linked.core_relos
        self._returns_others: dict[range, bool] = {}
        self._reaches: dict[tuple[object, ...], Reach] = {}
        self._watches: dict[tuple[bool, ...], frozenset[tuple[int, VerifierRefusal]]] = {}

    @cached_property
    def code(self) -> Code:
        return self._code(as_built=False)

    @cached_property
    def code_as_built(self) -> Code:
        return self._code(as_built=True)

    def _code(self, *, as_built: bool) -> Code:
        around = Surroundings(
            packet=packet_fields(self.accessed),
            has_numbers_only=has_numbers_only(self.section),
            stack_helper_fills=self.section is None or self.section.program_type not in _RAW,
            passed={
                index: tuple(passed_values(self.obj.btf, function.name, index))
                for index, function in enumerate(self.linked.functions)
                if index and function.is_global
            },
            sizes=map_sizes(self.linked, {definition.name: definition for definition in self.obj.maps}),
        )
        return Code(self.linked, FrozenData(self.obj, as_built=as_built).read, around)

    def reach(
        self, outcomes: Sequence[RelocationOutcome], effort: Effort, facts: Facts, *, as_built: bool = False
    ) -> Reach:
        """The walk with these facts and the relocated values, done once for all kernels on which it goes the same way.

        Offsets of fields differ from kernel to kernel and rarely decide a branch, so they are kept back first.
        """
        immediates: dict[int, Value] = {}
        offsets: dict[int, Value] = {}
        for slot, index in self.relos:
            resolution = outcomes[index].resolution
            if resolution is None or slot in facts.hazards:
                continue
            (offsets if resolution.kind in _PLACES else immediates)[slot] = resolution.target_value
        facts = replace(facts, immediates={**immediates, **dict.fromkeys(offsets, OPAQUE)})
        reach = self._walk(facts, effort, as_built=as_built)
        if reach.depends_on_opaque:
            facts = replace(facts, immediates={**immediates, **offsets})
            reach = self._walk(facts, effort, as_built=as_built)
        return reach

    def _walk(self, facts: Facts, effort: Effort, *, as_built: bool) -> Reach:
        watches_values = facts.arguments is not None or facts.tells_varying or self.context.moved
        if self.code.goes_one_way and not watches_values:
            facts = Facts(facts.hazards, context=facts.context)  # nothing else matters then
        values = tuple(facts.immediates.items()), tuple(facts.externs.items())
        watched = (facts.hazards, facts.arguments, facts.context, facts.returns, facts.watched)
        key = (*watched, *values, facts.verifier, as_built)
        known = self._reaches.get(key)
        if known is None or not known.cost.is_same_with(effort.limit):
            known = self._reaches[key] = analyse(self.code_as_built if as_built else self.code, facts, effort.limit)
        effort.spend(known.cost)
        return known

    def arguments(self, features: KernelFeatures, effort: Effort) -> int | None:
        """How many arguments a tracing program may read, if it reads others too; None where all is well or unknown."""
        section = self.section
        if section is None or not section.target or section.module or section.target_kind not in _WITH_ARGUMENTS:
            return None
        effort.spend(self._blind_reach.cost)
        if not self._blind_reach.missing_arguments:
            return None
        count = features.arguments(BTF_PREFIX[section.target_kind] + section.target)
        if count is None:
            return None
        # the return value follows the arguments
        count += section.attach_type not in _BEFORE_RETURN
        return count if max(self._blind_reach.missing_arguments.values()) >= count else None

    def returns(self, features: KernelFeatures) -> range | None:
        """What the program may return, if it may return something else; None where all is well or unknown."""
        allowed = allowed_returns(self.section, features)
        if allowed is None:
            return None
        if allowed not in self._returns_others:
            self._returns_others[allowed] = may_return_others(self.code, allowed)
        return allowed if self._returns_others[allowed] else None

    def watched(self, features: KernelFeatures) -> frozenset[tuple[int, VerifierRefusal]]:
        """Where the program may do what this kernel's verifier refuses and newer ones do not."""
        if features.has_variable_stack:
            return frozenset()
        taken = (features.takes_map_values, features.spills_reserved_space, features.has_variable_buffers)
        if taken not in self._watches:
            self._watches[taken] = self._suspects_but(*taken)
        return self._watches[taken]

    def _suspects_but(
        self, takes_map_values: bool, spills_reserved_space: bool, has_variable_buffers: bool
    ) -> frozenset[tuple[int, VerifierRefusal]]:
        """The suspects, without what a kernel with these abilities takes."""
        suspects = dict(self._suspects)
        if takes_map_values:
            del suspects[VerifierRefusal.MAP_VALUE]
        if spills_reserved_space:
            del suspects[VerifierRefusal.LOST_POINTER]
        if has_variable_buffers:
            suspects[VerifierRefusal.VARIABLE_STACK] -= self.linked.helper_calls.keys()
        return frozenset((slot, refusal) for refusal, slots in suspects.items() for slot in slots)

    @cached_property
    def _suspects(self) -> Mapping[VerifierRefusal, frozenset[int]]:
        """Where the program may do what some verifiers refuse."""
        passed = passed_from_elsewhere(self.linked)
        return {
            VerifierRefusal.MAP_VALUE: passed,
            VerifierRefusal.CONTEXT_PASSED: passed,
            VerifierRefusal.BEYOND_STACK: calls_with_memory(self.linked),
            VerifierRefusal.LOST_POINTER: uses_of_reserved_space(self.linked),
            VerifierRefusal.VARIABLE_STACK: accesses_at_variable_offsets(self.linked),
            VerifierRefusal.UNWRITTEN_STACK: reads_of_stack(self.linked),
            VerifierRefusal.EMPTY_BUFFER: sized_by_numbers(self.linked),
        }

    @cached_property
    def _blind_reach(self) -> Reach:
        """All that the program may reach on any kernel, with relocated values left open and states joined."""
        open_values: dict[int, Value] = {slot: None for slot, _ in self.relos}
        blind = Verifier(reads_frozen_maps=False, skips_uncalled_globals=False)
        return analyse(self.code, Facts(frozenset(), open_values, {}, blind, arguments=0), 0)

    @cached_property
    def context(self) -> ContextAccesses:
        return context_accesses(self.linked)

    @cached_property
    def accessed(self) -> Mapping[int, str]:
        """The fields of the context that it accesses, by slot."""
        return accessed_fields(self.linked, self.obj.btf, self.context.given, self.section)
