"""What a walk has to know of a program on one kernel, and of the kernel's verifier.

Input: what the checks of a program found there: slots that the verifier refuses, relocated numbers, values of externs,
what the program may return. Output: `Facts`, which the walk only reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from hatch_bpf.verifier.abilities import Verifier
from hatch_bpf.verifier.values import U32, Value


class VerifierRefusal(Enum):
    """What some verifiers refuse, and only the walk can tell."""

    MAP_VALUE = auto()
    """A helper call that takes the key or value of a map from a value of a map."""
    VARIABLE_STACK = auto()
    """An access to the stack at an offset that varies."""
    UNWRITTEN_STACK = auto()
    """A helper call that reads bytes of the stack that were never written, or may write less than it has to."""
    BEYOND_STACK = auto()
    """A helper call with a key, a value or a buffer that may end beyond the stack."""
    LOST_POINTER = auto()
    """A use of space in a ring buffer whose address was on the stack in between."""
    EMPTY_BUFFER = auto()
    """A helper call whose buffer may have no bytes."""
    CONTEXT_PASSED = auto()
    """A helper call that takes its key, its value or its buffer from the context."""


@dataclass(frozen=True)
class Facts:
    """What is true of a program on one kernel."""

    hazards: frozenset[int]
    """Slots of instructions that the verifier refuses, if it reaches them."""
    immediates: Mapping[int, Value] = field(default_factory=dict)
    """Slot -> the number that relocation puts in its place: an int, or OPAQUE."""
    externs: Mapping[str, Value] = field(default_factory=dict)
    """Kconfig externs: their values. Kernel symbols: 0 where the kernel lacks them, NON_NULL or None else."""
    verifier: Verifier = field(default_factory=Verifier)
    arguments: int | None = None
    """How many arguments a tracing program's target has; reading any other is a hazard too. None to skip the check."""
    context: frozenset[int] = frozenset()
    """Slots of loads and stores that are hazards if they access the context as it was given."""
    returns: range | None = None
    """What the program may return: an exit with anything else is a hazard too. None to skip the check."""
    watched: frozenset[tuple[int, VerifierRefusal]] = frozenset()
    """Slots that are hazards if they do what the refusal names. Only for verifiers from before Linux 5.12."""

    @property
    def tells_varying(self) -> bool:
        """Whether varying numbers are kept apart from unknown ones, which takes more states."""
        return self.returns is not None or bool(self.watched)


def is_allowed(returned: int, allowed: range) -> bool:
    """Whether a program may return a constant. Verifiers look at 64 bits or at the lower 32: one of both is enough."""
    return returned in allowed or returned & U32 in allowed
