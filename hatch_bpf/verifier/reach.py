"""What the walk found: which hazards the verifier reaches, and whether for certain or on which conditions.

Input: the straight pieces of code that were walked, and what follows each. Output: an `Exposure` for each hazard, which
is part of a `Reach`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hatch_bpf.errors import ObjectError
from hatch_bpf.support.budget import WALKED_INSNS
from hatch_bpf.verifier.effort import Cost
from hatch_bpf.verifier.facts import VerifierRefusal
from hatch_bpf.verifier.state import State

_NODES_PER_INSN = 16
"""Pieces of code that can be looked at afterwards in the time of an instruction."""


@dataclass(frozen=True)
class Exposure:
    """How the verifier reaches a hazard."""

    certain: bool
    """Reached whatever the application sets before the load."""
    conditions: frozenset[str] = frozenset()
    """If not certain, the globals and configuration values that decide it."""


@dataclass(frozen=True)
class Reach:
    """What the walk found."""

    hazards: Mapping[int, Exposure]
    """The hazards that are reached, by slot, including those below, which only the walk can tell."""
    missing_arguments: Mapping[int, int]
    """Slots of those reads -> which argument, from 0 on."""
    refused_context: frozenset[int]
    """Those of `Facts.context` that do access the context."""
    moved_context: frozenset[int]
    """Slots of loads and stores through the context pointer, moved: hazards, since verifiers refuse those."""
    refused_returns: Mapping[int, int]
    """Slots of exits -> what the program returns there, although it may not."""
    refusals: Mapping[int, VerifierRefusal]
    """Those of `Facts.watched` that do what they are watched for."""
    certain: bool
    """Whatever the application sets, the verifier reaches one of the hazards."""
    reached: frozenset[int]
    """Slots that the walk reached."""
    depends_on_opaque: bool
    """A branch depends on a number that was kept back as OPAQUE: walk again with its value."""
    cost: Cost


@dataclass(slots=True, eq=False)
class Piece:
    """A straight piece of code, entered in one state, and what follows it."""

    slot: int
    state: State
    successors: tuple[int, ...] = ()
    names: frozenset[str] | None = None
    """What decides a branch at load: then only one of the successors is walked, else all are."""
    hazards: frozenset[int] = frozenset()


class PieceGraph:
    """The pieces of code as nodes of a graph, each with what follows it."""

    def __init__(self, nodes: Sequence[Piece], entries: Sequence[int]) -> None:
        """`entries` are the indexes of the nodes that the verifier begins with."""
        self.nodes = nodes
        self.entries = entries
        self.predecessors: list[list[int]] = [[] for _ in nodes]
        for index, node in enumerate(nodes):
            for successor in dict.fromkeys(node.successors):
                self.predecessors[successor].append(index)

    def exposures(self, source: str) -> tuple[dict[int, Exposure], int]:
        """How each hazard is reached, and what it took to find out, in instructions. `source` names the program."""
        nodes_of: dict[int, list[int]] = defaultdict(list)
        for index, node in enumerate(self.nodes):
            for slot in node.hazards:
                nodes_of[slot].append(index)
        # hazards of the same pieces of code are exposed alike
        alike: dict[tuple[int, ...], Exposure] = {}
        exposures: dict[int, Exposure] = {}
        most = WALKED_INSNS.most * _NODES_PER_INSN // max(1, len(self.nodes))
        for slot in sorted(nodes_of):
            starts = tuple(nodes_of[slot])
            if starts not in alike:
                if len(alike) > most:
                    raise ObjectError("has more conditions than any real program: split it", source=source)
                alike[starts] = self._exposure(starts)
            exposures[slot] = alike[starts]
        return exposures, len(alike) * len(self.nodes) // _NODES_PER_INSN

    def is_certain(self) -> bool:
        """Whether one of the hazards is reached whatever is set before the load."""
        return self._is_reached_for_certain(index for index, node in enumerate(self.nodes) if node.hazards)

    def _exposure(self, starts: Sequence[int]) -> Exposure:
        """How a hazard is reached that is in these pieces of code."""
        if self._is_reached_for_certain(starts):
            return Exposure(certain=True)
        leading = self._leading_to(starts)
        branches = [(node.names, node.successors) for node in map(self.nodes.__getitem__, leading) if node.names]
        deciding = [names for names, successors in branches if not leading.issuperset(successors)]
        return Exposure(certain=False, conditions=frozenset().union(*(deciding or (names for names, _ in branches))))

    def _is_reached_for_certain(self, starts: Iterable[int]) -> bool:
        """Whether one of these nodes is reached whatever is set before the load."""
        return not self._leading_to(starts, for_certain=True).isdisjoint(self.entries)

    def _leading_to(self, starts: Iterable[int], *, for_certain: bool = False) -> set[int]:
        """Nodes from which one of `starts` may be reached, or is reached whatever is set before the load.

        For certain, a branch decided at load has to lead there both ways; any other leads there if one way does.
        """
        found = set(starts)
        pending = list(found)
        while pending:
            for index in self.predecessors[pending.pop()]:
                node = self.nodes[index]
                needs_both_ways = for_certain and node.names is not None
                if index not in found and (not needs_both_ways or found.issuperset(node.successors)):
                    found.add(index)
                    pending.append(index)
        return found
