"""What a kernel's verifier can follow, as far as kernels differ. `KernelFeatures` derives it from BTF."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verifier:
    """What one kernel's verifier knows while it walks a program, as far as kernels differ."""

    follows_constants: bool = True
    """It decides every comparison of two constants, and keeps constants that are spilled to the stack (Linux 5.3);
    older ones only decide `==` and `!=` with an immediate, and forget what is spilled, unless it is 0."""
    follows_xor: bool = True
    """It knows the result of an exclusive or of constants (Linux 5.10)."""
    follows_small_spills: bool = True
    """It keeps constants of less than eight bytes on the stack (Linux 5.16)."""
    follows_immediate_stores: bool = True
    """It keeps constants that a store with an immediate puts on the stack (Linux 6.3)."""
    reads_frozen_maps: bool = True
    """It knows the values of read-only globals and of kconfig externs (Linux 5.5)."""
    skips_uncalled_globals: bool = True
    """It checks a global function only if a call of it can be reached (Linux 6.8); older ones check all."""
    spares_what_is_read: bool = True
    """It keeps what it knows of stack that a helper only reads, as a map's key (Linux 6.16 does, 6.12 does not); older
    ones forget all that a helper is given."""
