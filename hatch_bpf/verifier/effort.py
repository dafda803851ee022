"""What walks may take, and what they took.

Input: the size of an object, and the cost of each walk of its programs. Output: for how long the next walk may keep
states apart; an error once all is spent.
"""

from __future__ import annotations

from dataclasses import dataclass

from hatch_bpf.errors import ObjectError
from hatch_bpf.support.budget import Budget

MAX_PRECISE_INSNS = 1 << 19
"""Instructions walked before every state at a label is joined at once."""
_STEPS_PER_2_INSNS = 3
"""What two instructions cost of a budget."""


@dataclass(frozen=True)
class Cost:
    """What a walk took, counted in instructions."""

    precise: int
    """What was followed with states kept apart."""
    rest: int
    """What was followed with states joined, and what it took to put the pieces together."""
    gave_up_at: int | None
    """How many instructions the states could be kept apart for; None if that was enough."""

    def is_same_with(self, limit: int) -> bool:
        """Whether the walk would go the same way with this limit."""
        return self.precise <= limit if self.gave_up_at is None else self.gave_up_at == limit


class Effort:
    """What walking the programs of one object on one kernel may take in all.

    While some is left of the first half, states are kept apart, up to a limit for each program. Afterwards they are
    joined: less is known then, and more instructions are taken to be reached.
    """

    def __init__(self, source: str, size: int) -> None:
        """`source` names the object in errors; `size` is its size in bytes."""
        self._budget = Budget(source, size, error=ObjectError)
        self._precise = self._budget.left // 2

    @property
    def limit(self) -> int:
        """Instructions for which a walk may keep states apart."""
        return min(MAX_PRECISE_INSNS, max(self._precise, 0))

    def spend(self, cost: Cost) -> None:
        """Charge for a walk, done now or before. Raises `ObjectError` when all is spent."""
        self._precise -= cost.precise
        self._budget.work(_STEPS_PER_2_INSNS * (cost.precise + cost.rest) // 2)
