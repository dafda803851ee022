"""CO-RE relocations of an object on a kernel: what libbpf makes of each, and what is wrong with it.

Input: an object, and what resolves relocations against a kernel's full BTF and against its minimized one. Output: a
`RelocationOutcome` for each relocation. Whether a missing field matters depends on whether the program reaches it:
`program_check.py` finds out.
"""

from __future__ import annotations

from dataclasses import dataclass

from hatch_bpf.btf.ext import CoreRelo
from hatch_bpf.core_relo.patch import patch_insn
from hatch_bpf.core_relo.resolve import Resolution, Resolver, agree
from hatch_bpf.errors import RelocationError
from hatch_bpf.objects.model import INSN_SIZE, ObjectModel
from hatch_bpf.portability import reasons as because
from hatch_bpf.portability.verdicts import Reason


@dataclass(frozen=True)
class RelocationOutcome:
    """How one relocation ends on one kernel."""

    resolution: Resolution | None
    """None where libbpf refuses the object."""
    is_poisoned: bool
    reasons: tuple[Reason, ...] = ()
    """What is wrong with it whether or not its instruction is reached."""
    poison: Reason | None = None
    """Why its instruction is poisoned; the weight depends on how that is reached."""


class RelocationChecker:
    """The relocations of one object."""

    def __init__(self, obj: ObjectModel) -> None:
        self._obj = obj
        self.relos = obj.core_relos()
        self._sources = [because.source_of(obj, section, relo) for section, relo in self.relos]

    def outcomes(self, matcher: Resolver, minimized: Resolver | None) -> list[RelocationOutcome]:
        relos = [relo for _, relo in self.relos]
        full = list(matcher.resolve_all(self._obj.btf, relos))
        small = list(minimized.resolve_all(self._obj.btf, relos)) if minimized else full
        return [
            self._outcome(index, on_full, on_small)
            for index, (on_full, on_small) in enumerate(zip(full, small, strict=True))
        ]

    def _outcome(
        self,
        index: int,
        full: Resolution | RelocationError,
        small: Resolution | RelocationError,
    ) -> RelocationOutcome:
        source = self._sources[index]
        if isinstance(full, RelocationError):
            return RelocationOutcome(None, False, (because.refused_relocation(full, source),))
        reasons = []
        if not agree(full, small):
            reasons.append(because.minimized_differs(full, source))
        if full.poisoned:
            poison = because.missing(full.local, source, type_is_there=full.type_is_there)
            return RelocationOutcome(full, True, tuple(reasons), poison)
        if full.local_size == full.target_size and full.target_value <= 0x7FFF:
            return RelocationOutcome(full, False, tuple(reasons))
        return self._patched(self.relos[index], full, reasons, source)

    def _patched(
        self, place: tuple[str, CoreRelo], resolution: Resolution, reasons: list[Reason], source: str
    ) -> RelocationOutcome:
        """Whether a load or store can take a field's other size, or a big offset, is for the instruction to say."""
        section, relo = place
        function = self._obj.function_at(section, relo.insn_off)
        if function is None:
            return RelocationOutcome(resolution, False, tuple(reasons))
        at = relo.insn_off - function.offset
        window = function.insns[at : at + 2 * INSN_SIZE]
        try:
            patched = patch_insn(window, 0, resolution)
        except RelocationError as error:
            return RelocationOutcome(None, False, (*reasons, because.refused_relocation(error, source)))
        if resolution.fail_memsz_adjust and patched[0] != window[0]:
            return RelocationOutcome(resolution, True, tuple(reasons), because.size_differs(resolution, source))
        return RelocationOutcome(resolution, False, tuple(reasons))
