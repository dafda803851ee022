"""What a kernel's verifier can follow, as far as kernels differ. `KernelFeatures` derives it from BTF."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hatch_bpf.objects.insns import AluOp


@dataclass(frozen=True)
class Verifier:
    """What one kernel's verifier knows while it walks a program, as far as kernels differ."""

    decides_unequal: bool = True
    """It decides `==` and `!=` of a constant and an immediate that differ (Linux 4.16). Every verifier does if they are
    equal."""
    decides_order: bool = True
    """It decides `<`, `>`, `&` and the like of a constant and an immediate (Linux 4.20)."""
    decides_registers: bool = True
    """It decides comparisons of two registers that hold constants (Linux 5.3)."""
    follows_arithmetic_shifts: bool = True
    """It knows the result of an arithmetic shift of constants (Linux 4.18)."""
    follows_xor: bool = True
    """It knows the result of an exclusive or of constants (Linux 5.10)."""
    follows_spilled_zeros: bool = True
    """It keeps zeros on the stack, of any size (Linux 4.16)."""
    follows_spills: bool = True
    """It keeps other constants of eight bytes that are spilled to the stack (Linux 5.3)."""
    follows_small_spills: bool = True
    """It keeps constants of less than eight bytes on the stack (Linux 5.16)."""
    follows_immediate_stores: bool = True
    """It keeps constants that a store with an immediate puts on the stack (Linux 6.3)."""
    reads_frozen_maps: bool = True
    """It knows the values of read-only globals and of kconfig externs (Linux 5.5)."""
    checks_globals_alone: bool = True
    """It checks a global function once, for any arguments (Linux 5.6); older ones walk it from each call, like a
    static function, with what is known of its arguments."""
    skips_uncalled_globals: bool = True
    """It does not check global functions that no call can reach (Linux 6.8)."""
    spares_what_is_read: bool = True
    """It keeps what it knows of stack that a helper only reads, as a map's key (Linux 6.16 does, 6.12 does not); older
    ones forget everything that a helper gets."""

    @cached_property
    def gives_up_on(self) -> frozenset[AluOp]:
        """Arithmetic of constants whose result it does not know, although newer ones do."""
        followed = {AluOp.XOR: self.follows_xor, AluOp.ARSH: self.follows_arithmetic_shifts}
        return frozenset(op for op, follows in followed.items() if not follows)
