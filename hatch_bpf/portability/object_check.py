"""`ObjectModel`s x kernels -> verdicts: will each program load on each kernel, and if not, why, and what to do.

Input: BPF objects and, for each kernel, what resolves relocations against its full BTF and against the minimized one
that is embedded for it. Output: a `ProgramVerdict` for each program.

A verdict is about one program, as if it alone of its object were loaded. What libbpf does for the whole object first
(creating maps, finding externs) counts for each of its programs. One module checks each part: `map_check.py`,
`extern_check.py`, `relocation_check.py`, `section_check.py` and `program_check.py`, which puts them together for one
program. `reasons.py` has the wording.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from hatch_bpf.core_relo.resolve import Matcher
from hatch_bpf.core_relo.source_lines import SourceLines
from hatch_bpf.core_relo.spec import essential_name
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.objects.linked_program import Linker
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.portability import reasons as because
from hatch_bpf.portability.context_check import names_of_context
from hatch_bpf.portability.extern_check import FLAVORS_SINCE, find_ksyms, kconfig_reasons, values_of_externs
from hatch_bpf.portability.helper_functions import function_of
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.libbpf_open import refusals_of_libbpf
from hatch_bpf.portability.libbpf_rules import ElfView, lost_pointers, refusals, unused_struct_ops
from hatch_bpf.portability.map_check import map_reasons, struct_ops_reasons
from hatch_bpf.portability.program_check import ObjectOnKernel, ProgramChecker
from hatch_bpf.portability.relocation_check import RelocationChecker
from hatch_bpf.portability.section_check import names_of_target
from hatch_bpf.portability.verdicts import ProgramVerdict, Reason, Verdict, Weight, decide
from hatch_bpf.project.alternatives import NONE, Alternatives
from hatch_bpf.verifier.effort import Effort


class Checker:
    """Checks objects on one kernel after another; what does not depend on the kernel is worked out once."""

    def __init__(
        self,
        objects: Sequence[ObjectModel],
        alternatives: Alternatives = NONE,
        libbpf: tuple[int, int] | None = None,
        refused: tuple[str, Mapping[bytes, str]] | None = None,
    ) -> None:
        """`libbpf` is the version that loads the objects; None if any may.

        `refused` has libbpf's answers for these objects and others; without it libbpf is asked.
        """
        self._objects = [ObjectChecker(obj, alternatives, libbpf) for obj in objects]
        version, reasons = refused or refusals_of_libbpf(obj.elf for obj in objects) or ("", {})
        for checker in self._objects:
            checker.note_refusal(version, reasons.get(checker.obj.elf, ""))
        self._names = frozenset(name for obj in self._objects for name in obj.names())

    def verdicts(self, kernel: Kernel, matcher: Matcher, minimized: Matcher | None) -> tuple[ProgramVerdict, ...]:
        """The verdict for every program on a kernel, whose BTF `matcher` resolves relocations against.

        `minimized` resolves them against what is embedded for the kernel; None to leave that out. Raises `ObjectError`
        for code that no compiler makes.
        """
        features = KernelFeatures(matcher.target)
        features.expect(self._names)
        return tuple(verdict for obj in self._objects for verdict in obj.check(kernel, features, matcher, minimized))


def _with_any_libbpf(newer: ProgramVerdict, older: ProgramVerdict | None = None) -> ProgramVerdict:
    """One verdict from two, which depend on the version of libbpf."""
    if older is None or newer == older:
        return newer
    fails = newer.verdict is older.verdict is Verdict.FAILS
    reasons = [reason for reason in newer.reasons if reason in older.reasons]
    for one, other, versions in ((newer, older, "1.3 and newer"), (older, newer, "before 1.3")):
        apart = (reason for reason in one.reasons if reason not in other.reasons)
        reasons += (because.with_libbpf(reason, versions, fails=fails) for reason in apart)
    verdict, ordered = decide(reasons)
    return replace(newer, verdict=verdict, reasons=ordered)


class ObjectChecker:
    """One object."""

    def __init__(self, obj: ObjectModel, alternatives: Alternatives, libbpf: tuple[int, int] | None) -> None:
        if not obj.programs:
            # libbpf before 1.6 takes a single function without SEC() for a program of unknown type
            outside = tuple(function for function in obj.subprograms if function.is_global) or obj.subprograms
            obj = replace(obj, programs=outside, subprograms=tuple(f for f in obj.subprograms if f not in outside))
        self.obj = obj
        self._libbpf = libbpf
        view = ElfView(obj)
        self._refusals = refusals(view, libbpf)
        unused, lost = unused_struct_ops(view), lost_pointers(view)
        self.alternatives = alternatives.of_object(obj)
        linker, lines = Linker(obj), SourceLines(obj)
        self._relocations = RelocationChecker(obj, lines)
        self._kconfig = kconfig_reasons(obj)
        self.programs = [
            ProgramChecker(
                obj,
                linker.link(program),
                lines,
                self.alternatives,
                lost_pointers=lost,
                is_unused=program.name in unused,
                libbpf=libbpf,
            )
            for program in obj.programs
        ]

    @cached_property
    def _users(self) -> Mapping[str, set[str]]:
        """The programs that use each map."""
        users: dict[str, set[str]] = defaultdict(set)
        for program in self.programs:
            for name in filter(None, (one.map_in(self.obj) for one in program.linked.references.values())):
                users[name].add(program.program.name)
        return users

    def note_refusal(self, version: str, said: str) -> None:
        """Add what the libbpf at hand says to the object, where no rule says why it refuses it."""
        if said and not self._refusals:
            is_the_wheels = bool(self._libbpf) and version == "{}.{}".format(*self._libbpf or ())
            self._refusals = [because.refused_by_this_libbpf(version, said, is_the_wheels=is_the_wheels)]

    def names(self) -> Iterator[str]:
        """Functions, tracepoints and variables to look up in a kernel."""
        for program in self.programs:
            yield from filter(None, map(function_of, program.linked.helper_calls.values()))
            yield from names_of_context(program.section)
            if program.section is not None and program.section.target:
                yield from names_of_target(program.section)
        for extern in self.obj.ksyms:
            yield from (extern.name, essential_name(extern.name))

    def check(
        self, kernel: Kernel, features: KernelFeatures, matcher: Matcher, minimized: Matcher | None
    ) -> list[ProgramVerdict]:
        outcomes = self._relocations.outcomes(matcher, minimized, features)
        maps = list(map_reasons(self.obj, features))
        unmade = self._unmade(maps)
        shared = [*self._refusals, *struct_ops_reasons(self.obj, features), *self._kconfig]
        effort = Effort(self.obj.path, len(self.obj.elf))
        by_libbpf = []
        ways = (True, False) if self._libbpf is None else (self._libbpf >= FLAVORS_SINCE,)
        for ksyms in dict.fromkeys(find_ksyms(self.obj, features, with_flavors=newer) for newer in ways):
            externs = values_of_externs(self.obj, kernel, features, ksyms)
            here = ObjectOnKernel(features, kernel.arch, outcomes, externs, ksyms, unmade, effort)
            verdicts = []
            for program in self.programs:
                own = [reason for name, reason in maps if name not in unmade and self._is_created(name, program)]
                verdicts.append(program.check(here, [*own, *shared, *ksyms.reasons]))
            by_libbpf.append(verdicts)
        verdicts = [_with_any_libbpf(*each) for each in zip(*by_libbpf, strict=True)]
        return [self._in_its_group(verdict, verdicts) for verdict in verdicts]

    def _unmade(self, maps: Sequence[tuple[str, Reason]]) -> dict[str, Reason]:
        """Maps that the kernel cannot create but that have an alternative, with the reasons."""
        failing = {name: reason for name, reason in maps if reason.weight is Weight.FAILS}
        return {
            name: failing[name]
            for group in self.alternatives.groups
            if group.of_maps and not failing.keys() >= set(group.members)
            for name in group.members
            if name in failing
        }

    def _is_created(self, name: str, program: ProgramChecker) -> bool:
        """Whether a map is created when this program is loaded and others that may be left out are not."""
        users = self._users.get(name, set())
        return not users or program.program.name in users or not users <= self.alternatives.questionable

    def _in_its_group(self, verdict: ProgramVerdict, verdicts: Sequence[ProgramVerdict]) -> ProgramVerdict:
        group = self.alternatives.group_of(verdict.program)
        if group is None or not verdict.verdict.is_failure:
            return replace(verdict, group=group.name if group else "")
        by_name = {found.program: found.verdict for found in verdicts}
        working = [name for name in group.members if not by_name[name].is_failure]
        stand_in = min(working, key=lambda name: by_name[name] is not Verdict.LOADS, default="")
        note = (because.alternative(group.name, stand_in),) if stand_in else ()
        return replace(verdict, reasons=(*verdict.reasons, *note), group=group.name, stand_in=stand_in)
