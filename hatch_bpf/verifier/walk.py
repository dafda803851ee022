"""Which of a program's suspicious instructions would the kernel's verifier reach? `Code` x `Facts` -> `Reach`.

Input: a program; the slots that the verifier refuses ("hazards": poisoned instructions, helpers that the kernel lacks);
the numbers that CO-RE relocation puts into instructions; what externs are worth; how much the kernel's verifier can
follow. Output: for each hazard whether it is reached for certain, only under conditions that are fixed when the program
is loaded (and which), or not at all, so that it does no harm: the verifier leaves dead code alone.

The walk is the verifier's: every branch on what changes from run to run goes both ways, a branch on constants goes one.
States that meet at a label are kept apart as long as they are few, and joined beyond that. Where the walk knows less
than the verifier, it reaches more instructions, never fewer.
"""

from __future__ import annotations

from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.insns import MAX_CALL_FRAMES, Class, Insn, JmpOp
from hatch_bpf.support.budget import WALKED_INSNS
from hatch_bpf.verifier.branches import decided, learn
from hatch_bpf.verifier.code import BRANCH, EXIT, GOTO, HELPER, PLAIN, Code
from hatch_bpf.verifier.effort import MAX_PRECISE_INSNS, Cost
from hatch_bpf.verifier.execute import Execution
from hatch_bpf.verifier.facts import Facts
from hatch_bpf.verifier.reach import Piece, PieceGraph, Reach
from hatch_bpf.verifier.state import State
from hatch_bpf.verifier.values import ContextPointer, Opaque, Settable, StackPointer, Undecided, Value, compare
from hatch_bpf.verifier.varying import Varying

MAX_STATES = 8
"""States kept apart at one label of one call; with more, they are joined."""
MAX_SEGMENTS = 20_000
"""Straight pieces of code walked before every state at a label is joined at once."""

_SEGMENT_COST = 16
"""Instructions that could be followed in the time that it takes to begin a piece of code."""


def analyse(code: Code, facts: Facts, limit: int = MAX_PRECISE_INSNS) -> Reach:
    """Walk a program as the verifier would, with states kept apart for `limit` instructions at the most."""
    walk, gave_up_at, precise = _Walk(code, facts, max_states=MAX_STATES), None, 0
    if not walk.run(MAX_SEGMENTS, limit):
        gave_up_at, precise = limit, walk.walked
        walk = _Walk(code, facts, max_states=0)
        if not walk.run(WALKED_INSNS.most, WALKED_INSNS.most):
            WALKED_INSNS.check(walk.walked, source=code.linked.program.name, error=ObjectError, remedy="split it")
    return walk.result(precise, gave_up_at)


class _Walk:
    def __init__(self, code: Code, facts: Facts, *, max_states: int) -> None:
        self.code = code
        self.linked = code.linked
        self.insns = code.linked.insns
        self.facts = facts
        self.execution = Execution(code, facts)
        self.max_states = max_states
        self.nodes: list[Piece] = []
        self.known: dict[tuple[object, ...], int] = {}
        """(slot, callers, state) -> node."""
        self.count: dict[tuple[object, ...], int] = {}
        """(slot, callers) -> number of nodes."""
        self.joined: dict[tuple[object, ...], int] = {}
        """(slot, callers) -> the node of what is joined there."""
        self.pending: list[int] = []
        self.reached: set[int] = set()
        self.walked = 0
        """Instructions that were followed so far."""
        self.tells_varying = facts.tells_varying

    def run(self, most_segments: int, most_insns: int) -> bool:
        """Walk to the end; False if it takes more pieces or instructions."""
        self.entries = [self._enter(0, State([None, ContextPointer(0), *[None] * 9]))]
        if self.facts.verifier.checks_globals_alone and not self.facts.verifier.skips_uncalled_globals:
            self.entries += [
                self._enter_alone(index)
                for index, function in enumerate(self.linked.functions)
                if index and function.is_global
            ]
        done = 0
        while self.pending:
            done += 1
            if done > most_segments or self.walked > most_insns:
                return False
            self._follow(self.nodes[self.pending.pop()])
        return True

    def _enter(self, slot: int, state: State) -> int:
        """The node for going on at `slot` in `state`, made or widened if need be."""
        live = self.code.live[slot] if slot < len(self.insns) else 0
        registers = state.registers
        for register in range(10):
            if registers[register] is not None and not live >> register & 1:
                registers[register] = None
        place = (slot, tuple(frame[0] for frame in state.frames))
        key = (slot, state.key())
        if key in self.known:
            return self.known[key]
        if self.count.get(place, 0) < self.max_states:
            self.count[place] = self.count.get(place, 0) + 1
            node = self.known[key] = self._add(slot, state)
            return node
        if place not in self.joined:
            node = self.joined[place] = self.known[key] = self._add(slot, state)
            return node
        node = self.joined[place]
        old = self.nodes[node].state
        wider = old.joined(state)
        # such a state is none that the verifier has, and may go ways that no state of the verifier's goes
        wider.is_doubtful |= bool(self.facts.watched)
        if wider.key() != old.key():
            self.nodes[node].state = wider
            self.pending.append(node)
        return node

    def _enter_alone(self, index: int) -> int:
        """The node for a global function, which is checked for any arguments."""
        passed: list[Value] = [None] * 11
        for register, value in enumerate(self.code.around.passed.get(index, ()), 1):
            if self.tells_varying or not isinstance(value, Varying):
                passed[register] = value
        return self._enter(self.linked.starts[index], State(passed))

    def _add(self, slot: int, state: State) -> int:
        self.nodes.append(Piece(slot, state))
        self.pending.append(len(self.nodes) - 1)
        return len(self.nodes) - 1

    def _follow(self, node: Piece) -> None:
        """Execute up to the next branch, label or exit."""
        state, slot = node.state.copy(), node.slot
        insns, steps, labels, hazards = self.insns, self.code.steps, self.code.labels, self.facts.hazards
        reached, execution = self.reached, self.execution
        execution.met = set()
        extra: list[int] = []
        successors: list[int] = []
        names: frozenset[str] | None = None
        while slot < len(insns):
            insn, step = insns[slot], steps[slot]
            reached.add(slot)
            if slot in hazards:
                execution.met.add(slot)
            if step == PLAIN:
                slot = execution.step(state, slot, insn)
            elif step == HELPER:
                if slot in self.code.throws:
                    break
                for callback in execution.helper(state, slot, insn):
                    extra.append(self._enter(self.linked.starts[callback.index], State([None] * 11)))
                slot += 1
            elif step == EXIT:
                execution.check_return(state, slot)
                successors += self._leave(state)
                break
            elif step == BRANCH:
                successors, names = self._branch(state, slot, insn)
                break
            elif step == GOTO:
                successors.append(self._enter(slot + 1 + insn.jump, state))
                break
            else:
                successors += self._call(state, slot)
                break
            if slot in labels:
                successors.append(self._enter(slot, state))
                break
        self.walked += slot - node.slot + _SEGMENT_COST
        if extra and names is not None:
            # callbacks are walked in any case, so they cannot share a node with a branch decided at load
            self.nodes.append(Piece(slot, node.state, tuple(successors), names))
            successors, names = [len(self.nodes) - 1], None
        node.successors = (*successors, *extra)
        node.names = names
        node.hazards = frozenset(execution.met)

    def _branch(self, state: State, slot: int, insn: Insn) -> tuple[list[int], frozenset[str] | None]:
        there, here = slot + 1 + insn.jump, slot + 1
        left = state.get(insn.dst)
        right: Value = state.get(insn.src) if insn.uses_register else insn.imm & 0xFFFFFFFF_FFFFFFFF
        bits = 64 if insn.cls is Class.JMP else 32
        outcome = decided(compare(insn.op, left, right, bits=bits), insn, self.facts.verifier)
        if isinstance(outcome, bool):
            return [self._enter(there if outcome else here, state)], None
        taken, not_taken, names = state.copy(), state, None
        if isinstance(outcome, Undecided):
            names = outcome.names
            is_whole = bits == 64 and isinstance(left, Settable) and isinstance(right, int)
            if is_whole and insn.op in (JmpOp.JEQ, JmpOp.JNE):
                equal = taken if insn.op == JmpOp.JEQ else not_taken
                equal.registers[insn.dst] = right
        else:
            self.execution.depends_on_opaque |= isinstance(outcome, Opaque)
            for way, is_true in ((taken, True), (not_taken, False)) if self.tells_varying else ():
                learn(way, insn.op, left, right, is_true=is_true, bits=bits, is_old=bool(self.facts.watched))
        return [self._enter(there, taken), self._enter(here, not_taken)], names

    def _call(self, state: State, slot: int) -> list[int]:
        """A call of a subprogram, walked with what is known here unless the verifier checks it alone."""
        index = self.linked.calls[slot]
        function, start = self.linked.functions[index], self.linked.starts[index]
        if len(state.frames) + 1 >= MAX_CALL_FRAMES:
            state.forget_call()
            return [self._enter(slot + 1, state)]
        if function.is_global and self.facts.verifier.checks_globals_alone:
            state.forget_call()
            return [self._enter(slot + 1, state), self._enter_alone(index)]
        live = self.code.live[slot + 1]
        saved = tuple(state.registers[r] if live >> r & 1 else None for r in range(6, 10))
        registers = [None, *state.registers[1:6], *[None] * 5]
        frames, stacks = (*state.frames, (slot + 1, saved)), (*state.stacks, {})
        inner = State(registers, frames, stacks, (*state.written, 0), is_doubtful=state.is_doubtful)
        return [self._enter(start, inner)]

    def _leave(self, state: State) -> list[int]:
        if not state.frames:
            return []
        slot, saved = state.frames[-1]
        result = state.registers[0]
        frame = len(state.stacks) - 1
        if isinstance(result, StackPointer) and result.frame == frame:
            result = None
        registers = [result, *[None] * 5, *saved, None]
        stacks, written = state.stacks[:-1], state.written[:-1]
        outer = State(registers, state.frames[:-1], stacks, written, is_doubtful=state.is_doubtful)
        return [self._enter(slot, outer)]

    def result(self, given_up: int, gave_up_at: int | None) -> Reach:
        """Put the pieces together: what is certain, and what hangs on which conditions."""
        graph, found = PieceGraph(self.nodes, self.entries), self.execution
        exposures, looked_at = graph.exposures(self.linked.program.name)
        return Reach(
            hazards=exposures,
            missing_arguments=found.missing_arguments,
            refused_context=frozenset(found.refused_context),
            moved_context=frozenset(found.moved_context),
            refused_returns=found.refused_returns,
            refusals=found.refusals,
            certain=graph.is_certain(),
            reached=frozenset(self.reached),
            depends_on_opaque=found.depends_on_opaque,
            cost=Cost(self.walked, looked_at, None)
            if gave_up_at is None
            else Cost(given_up, self.walked + looked_at, gave_up_at),
        )
