"""CO-RE relocations of an object on a kernel: what libbpf makes of each, and what is wrong with it.

Input: an object, and what resolves relocations against a kernel's full BTF and against its minimized one. Output: a
`RelocationOutcome` for each relocation. Whether a missing field matters depends on whether the program reaches it:
`program_check.py` finds out.
"""

from __future__ import annotations

from dataclasses import dataclass

from hatch_bpf.core_relo.patch import patch_insn
from hatch_bpf.core_relo.resolve import Matcher, Resolution, agree
from hatch_bpf.core_relo.source_lines import SourceLines
from hatch_bpf.errors import RelocationError
from hatch_bpf.objects.model import INSN_SIZE, ObjectModel
from hatch_bpf.portability import reasons as because
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.verdicts import Reason


@dataclass(frozen=True)
class RelocationOutcome:
    """How one relocation ends on one kernel."""

    resolution: Resolution | None
    """None where libbpf refuses the object."""
    is_poisoned: bool
    reasons: tuple[Reason, ...] = ()
    """What is wrong with it even if its instruction is not reached."""
    poison: Reason | None = None
    """Why its instruction is poisoned; the weight depends on how that is reached."""


class RelocationChecker:
    """The relocations of one object."""

    def __init__(self, obj: ObjectModel, lines: SourceLines) -> None:
        self._obj = obj
        self._lines = lines
        self._missing: dict[tuple[int, bool, str], Reason] = {}
        """Why relocations are poisoned: by index, whether the kernel has the type, and what it has instead."""

    def outcomes(
        self, matcher: Matcher, minimized: Matcher | None, features: KernelFeatures
    ) -> list[RelocationOutcome]:
        relos = self._obj.core_relo_records
        full = matcher.resolve_all(self._obj.btf, relos)
        small = minimized.resolve_all(self._obj.btf, relos) if minimized else full
        # nearly all work in any instruction, and relocations of one field share their resolution
        working: dict[tuple[int, int], RelocationOutcome | None] = {}
        outcomes = []
        for index, (on_full, on_small) in enumerate(zip(full, small, strict=True)):
            key = id(on_full), id(on_small)
            if key not in working:
                working[key] = _if_working(on_full, on_small)
            outcomes.append(working[key] or self._outcome(index, on_full, on_small, features))
        return outcomes

    def _outcome(
        self,
        index: int,
        full: Resolution | RelocationError,
        small: Resolution | RelocationError,
        features: KernelFeatures,
    ) -> RelocationOutcome:
        if isinstance(full, RelocationError):
            return RelocationOutcome(None, False, (because.refused_relocation(full, self._source(index)),))
        reasons = () if agree(full, small) else (because.minimized_differs(full, self._source(index)),)
        if full.poisoned:
            return RelocationOutcome(full, True, reasons, self._missing_reason(index, full, features))
        return RelocationOutcome(full, False, reasons) if _fits_any_insn(full) else self._patched(index, full, reasons)

    def _source(self, index: int) -> str:
        return self._lines.of(*self._obj.core_relos[index])

    def _missing_reason(self, index: int, resolution: Resolution, features: KernelFeatures) -> Reason:
        key = index, resolution.type_is_there, features.near_access(resolution.local)
        if key not in self._missing:
            _, type_is_there, nearest = key
            source = self._source(index)
            self._missing[key] = because.missing(resolution.local, source, type_is_there=type_is_there, nearest=nearest)
        return self._missing[key]

    def _patched(self, index: int, resolution: Resolution, reasons: tuple[Reason, ...]) -> RelocationOutcome:
        """Whether the field's size or offset on the kernel fits depends on the instruction."""
        section, relo = self._obj.core_relos[index]
        function = self._obj.function_at(section, relo.insn_off)
        if function is None:
            return RelocationOutcome(resolution, False, reasons)
        at = relo.insn_off - function.offset
        window = function.insns[at : at + 2 * INSN_SIZE]
        try:
            patched = patch_insn(window, 0, resolution)
        except RelocationError as error:
            return RelocationOutcome(None, False, (*reasons, because.refused_relocation(error, self._source(index))))
        if resolution.fail_memsz_adjust and patched[0] != window[0]:
            return RelocationOutcome(resolution, True, reasons, because.size_differs(resolution, self._source(index)))
        return RelocationOutcome(resolution, False, reasons)


def _if_working(full: Resolution | RelocationError, small: Resolution | RelocationError) -> RelocationOutcome | None:
    """The outcome of a relocation that works in any instruction; None for any other."""
    if isinstance(full, RelocationError) or full.poisoned or not _fits_any_insn(full) or not agree(full, small):
        return None
    return RelocationOutcome(full, False)


def _fits_any_insn(resolution: Resolution) -> bool:
    """Whether a load or store can have the offset, and need not change its width."""
    return resolution.local_size == resolution.target_size and resolution.target_value <= 0x7FFF
