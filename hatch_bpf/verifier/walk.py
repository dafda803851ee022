"""Which of a program's suspicious instructions would the kernel's verifier reach? `Code` x `Facts` -> `Reach`.

Input: a program; the slots that the verifier refuses ("hazards": poisoned instructions, helpers that the kernel lacks);
the numbers that CO-RE relocation puts into instructions; what externs are worth; how much the kernel's verifier can
follow. Output: for each hazard whether it is reached for certain, only under conditions that are fixed when the program
is loaded (and which), or not at all, so that it does no harm: the verifier leaves dead code alone.

The walk is the verifier's: every branch on what changes from run to run goes both ways, a branch on constants goes one.
States that meet at a label are kept apart as long as they are few, and joined beyond that. Where this module knows less
than the verifier, it reaches more instructions, never fewer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import cached_property, lru_cache

from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.insns import (
    LD_IMM64,
    LOAD_ACQUIRE,
    STACK_REGISTER,
    STACK_SIZE,
    STORE_RELEASE,
    AluOp,
    Class,
    Insn,
    JmpOp,
    Mode,
    PseudoSrc,
    wide_immediate,
)
from hatch_bpf.objects.linked_program import LinkedProgram, RefersTo
from hatch_bpf.objects.model import ARENA_SECTION
from hatch_bpf.support.budget import WALKED_INSNS, Budget
from hatch_bpf.verifier.abilities import Verifier
from hatch_bpf.verifier.helper_memory import (
    ANY_NUMBER,
    BUFFERS,
    FILLED,
    GET_STACK,
    KEYS_AND_VALUES,
    MAP_LOOKUP,
    NEVER_EMPTY,
    READING_HELPERS,
    RESERVE,
    SUBMIT,
)
from hatch_bpf.verifier.read_only_data import is_read_only
from hatch_bpf.verifier.values import (
    PACKET,
    PERHAPS_STACK,
    U32,
    ContextPointer,
    DataPointer,
    FunctionPointer,
    MapValue,
    Opaque,
    Outcome,
    PacketPointer,
    RingBufferSpace,
    Settable,
    StackPointer,
    Undecided,
    Value,
    alu,
    compare,
    join,
    sign_extend,
    truncate,
)
from hatch_bpf.verifier.varying import SWAPPED, Varying, anything, narrowed, rules_out

MAX_STATES = 8
"""States kept apart at one label of one call; with more, they are joined."""
MAX_SEGMENTS = 20_000
"""Straight pieces of code walked before every state at a label is joined at once."""
MAX_INSNS = 1 << 19
"""Instructions walked before that."""
_THROW = "bpf_throw"
MAX_FRAMES = 8
"""Deepest nesting of calls that the verifier takes."""

_SEGMENT_COST = 16
"""Instructions that could be followed in the time that it takes to begin a piece of code."""
_STEPS_PER_2_INSNS = 3
"""What two instructions cost of a budget."""
_NODES_PER_INSN = 16
"""Pieces of code that can be looked at afterwards in the time of an instruction."""

ReadGlobal = Callable[[str, int, int], Value]
"""(section, offset, size) -> what is known of those bytes when the program is loaded."""


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
class Surroundings:
    """What is around a program's instructions, whatever the kernel: its context, its functions and its maps."""

    packet: frozenset[int] = frozenset()
    """Slots of loads from it that give a pointer to a packet."""
    has_numbers_only: bool = False
    """Whether it holds no pointer of any kind, as registers of a traced function."""
    stack_helper_fills: bool = True
    """Whether bpf_get_stack() fills its buffer, rather than wants one that was written."""
    passed: Mapping[int, tuple[Value, ...]] = field(default_factory=dict)
    """Index of a global function -> what r1 and so on hold when the verifier checks it alone."""
    sizes: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Slots of helper calls -> how many bytes the keys and the values of their map have."""


_NOTHING_AROUND = Surroundings()


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
        return min(MAX_INSNS, max(self._precise, 0))

    def spend(self, cost: Cost) -> None:
        """Charge for a walk, done now or before. Raises `ObjectError` when all is spent."""
        self._precise -= cost.precise
        self._budget.work(_STEPS_PER_2_INSNS * (cost.precise + cost.rest) // 2)


class Code:
    """What does not depend on the kernel, such as labels and live registers, worked out once for a program."""

    def __init__(self, linked: LinkedProgram, read_global: ReadGlobal, around: Surroundings = _NOTHING_AROUND) -> None:
        self.linked = linked
        self.read_global = read_global
        self.around = around

    @cached_property
    def labels(self) -> frozenset[int]:
        """Slots where paths meet: targets of jumps, and where calls return to."""
        return self.linked.meetings.union(slot + 1 for slot in self.linked.calls)

    @cached_property
    def steps(self) -> bytes:
        """What each slot does to the walk: one of the numbers below."""
        calls = self.linked.calls
        return bytes(_CALL if slot in calls else _step_of(insn) for slot, insn in enumerate(self.linked.insns))

    @cached_property
    def throws(self) -> frozenset[int]:
        """Slots of calls that end the program, whatever function they are in."""
        return frozenset(slot for slot, name in self.linked.kfunc_calls.items() if name == _THROW)

    @cached_property
    def end(self) -> int:
        """The slot behind the program's own instructions; those of the functions that it calls follow."""
        return self.linked.starts[1] if len(self.linked.starts) > 1 else len(self.linked.insns)

    @cached_property
    def goes_one_way(self) -> bool:
        """Whether there is one path through the program, whatever the kernel: no branch, and no other function."""
        return len(self.linked.functions) == 1 and _BRANCH not in self.steps

    @cached_property
    def live(self) -> tuple[int, ...]:
        """By slot: bit n is set if the value of register n may be read from here on, in the same function."""
        insns, steps = self.linked.insns, self.steps
        effects = [_registers(insn) for insn in insns]
        live = [0] * (len(insns) + 2)
        jumps_to: dict[int, list[int]] = defaultdict(list)
        for slot, step in enumerate(steps):
            if step in (_BRANCH, _GOTO):
                jumps_to[slot + 1 + insns[slot].jump].append(slot)

        def update(slot: int) -> bool:
            step, after = steps[slot], 0
            if step in (_BRANCH, _GOTO):
                after = live[slot + 1 + insns[slot].jump]
            if step not in (_EXIT, _GOTO):
                after |= live[slot + (2 if insns[slot].code == LD_IMM64 else 1)]
            reads, writes = effects[slot]
            before, live[slot] = live[slot], after & ~writes | reads
            return live[slot] != before

        # what a slot says goes to those before it at once, and to those that jump back to it in a second round
        pending = []
        for slot in range(len(insns) - 1, -1, -1):
            if update(slot):
                pending += [jump for jump in jumps_to.get(slot, ()) if jump >= slot]
        while pending:
            slot = pending.pop()
            if update(slot):
                pending += jumps_to.get(slot, ())
                pending += (before for before in (slot - 1, slot - 2) if before >= 0)
        return tuple(live[:-1])


_PLAIN, _EXIT, _BRANCH, _GOTO, _CALL, _HELPER = range(6)


@lru_cache(maxsize=1 << 14)
def _step_of(insn: Insn) -> int:
    if insn.is_exit:
        return _EXIT
    if insn.is_branch:
        return _BRANCH
    if insn.is_goto:
        return _GOTO
    return _HELPER if insn.is_call else _PLAIN


def is_allowed(returned: int, allowed: range) -> bool:
    """Whether a program may return a constant. Verifiers look at 64 bits or at the lower 32: one of both is enough."""
    return returned in allowed or returned & U32 in allowed


def analyse(code: Code, facts: Facts, limit: int = MAX_INSNS) -> Reach:
    """Walk a program as the verifier would, with states kept apart for `limit` instructions at the most."""
    walk, gave_up_at, precise = _Walk(code, facts, max_states=MAX_STATES), None, 0
    if not walk.run(MAX_SEGMENTS, limit):
        gave_up_at, precise = limit, walk.walked
        walk = _Walk(code, facts, max_states=0)
        if not walk.run(WALKED_INSNS.most, WALKED_INSNS.most):
            WALKED_INSNS.check(walk.walked, source=code.linked.program.name, error=ObjectError, remedy="split it")
    return walk.result(precise, gave_up_at)


@lru_cache(maxsize=1 << 14)
def _registers(insn: Insn) -> tuple[int, int]:
    """Bit sets of the registers that an instruction reads, and of those that it overwrites."""
    dst, src = 1 << insn.dst, 1 << insn.src
    cls = insn.cls
    if cls in (Class.ALU, Class.ALU64):
        reads = src if insn.uses_register else 0
        return (reads, dst) if insn.op == AluOp.MOV else (reads | dst, 0)
    if cls is Class.LDX:
        return src, dst & ~src
    if cls is Class.LD:
        return (0, dst) if insn.is_wide else (1 << 6 | src, 1)
    if cls is Class.ST:
        return dst, 0
    if cls is Class.STX:
        return dst | src | (1 if insn.mode == Mode.ATOMIC else 0), 0
    if insn.is_call:
        return 0b111110, 1
    if insn.is_exit:
        return 1, 0
    if insn.is_branch:
        return dst | (src if insn.uses_register else 0), 0
    return 0, 0


def _decided(outcome: Outcome, insn: Insn, verifier: Verifier) -> Outcome:
    """What a verifier knows of a comparison's outcome; None if it follows both ways."""
    if insn.uses_register:
        return outcome if verifier.decides_registers else None
    if insn.op not in (JmpOp.JEQ, JmpOp.JNE):
        return outcome if verifier.decides_order else None
    are_unequal = isinstance(outcome, bool) and outcome != (insn.op == JmpOp.JEQ)
    return None if are_unequal and not verifier.decides_unequal else outcome


_WHOLE_STACK = (1 << STACK_SIZE) - 1


def _bits(offset: int, size: int) -> int:
    """Bits for bytes of a frame."""
    return ((1 << size) - 1) << (STACK_SIZE + offset) & _WHOLE_STACK if offset >= -STACK_SIZE and size > 0 else 0


def _learn(state: _State, op: int, left: Value, right: Value, *, is_true: bool, bits: int, is_old: bool) -> None:
    """Note what a comparison's outcome says of its operands, on a way that the verifier may follow.

    A verifier that `is_old` (from before Linux 5.12) learns nothing from two numbers being unequal, from a comparison
    with what is no constant, and of numbers that the compared one was made from. Others may, and they may know that a
    lookup in an array always leads somewhere.
    """
    if isinstance(left, int) and isinstance(right, Varying) and op in SWAPPED:
        left, op, right = right, SWAPPED[op], left
    is_equal = is_true == (op == JmpOp.JEQ) if op in (JmpOp.JEQ, JmpOp.JNE) else None
    is_null = is_equal if right == 0 and bits == 64 else None
    if isinstance(left, MapValue) and not left.is_checked and is_null is not None:
        checked = 0 if is_null else replace(left, is_checked=True)
        state.replace(lambda value: checked if value == left else value)
        state.is_doubtful |= is_null and not is_old
    elif isinstance(left, Varying) and isinstance(right, int):
        if rules_out(left, op, right, is_true=is_true, bits=bits):
            state.is_doubtful = True
        if not (is_old and is_equal is False):
            _narrow(state, left, narrowed(left, op, right, is_true=is_true, bits=bits), is_old=is_old)
    elif isinstance(left, Varying) or isinstance(right, Varying):
        varying = [value for value in (left, right) if isinstance(value, Varying)]
        if len({value.trace[0] for value in varying}) < len(varying):
            state.is_doubtful = True  # one may say enough of the other
        for value in varying if not is_old else ():
            _narrow(state, value, None, is_old=is_old)
    elif is_null:
        # what is compared may be a pointer that the verifier knows not to be 0
        state.is_doubtful = True


def _narrow(state: _State, value: Varying, rest: Varying | None, *, is_old: bool) -> None:
    """Note what is left of a number. Newer verifiers may know by that more of others that were made of the same one."""

    def change(other: Value) -> Value:
        if other == value:
            return rest
        is_related = isinstance(other, Varying) and other.trace[0] == value.trace[0]
        return None if is_related and not is_old else other

    state.replace(change)


_Stack = dict[int, tuple[int, Value]]
"""Offset in a frame -> size and what is known of the bytes there."""


@dataclass(slots=True, eq=False)
class _State:
    """Registers r0 to r9 (r10 never changes), the frames of the callers, and what is known of every frame's stack."""

    registers: list[Value]
    frames: tuple[tuple[int, tuple[Value, ...]], ...] = ()
    """For each caller, the slot where it goes on and its r6 to r9."""
    stacks: tuple[_Stack, ...] = field(default_factory=lambda: ({},))
    """The last is the running function's."""
    written: tuple[int, ...] = (0,)
    """For each of them, a bit for each byte from the lowest on that was perhaps written."""
    is_doubtful: bool = field(default=False, kw_only=True)
    """A verifier may know that this is never reached. Noted only where varying numbers are kept apart."""

    def key(self) -> tuple[object, ...]:
        """Equal for states in which the same is known."""
        stacks = tuple(frozenset(stack.items()) for stack in self.stacks)
        return (tuple(self.registers), self.frames, stacks, self.written, self.is_doubtful)

    def copy(self) -> _State:
        stacks = tuple(dict(stack) for stack in self.stacks)
        return _State(list(self.registers), self.frames, stacks, self.written, is_doubtful=self.is_doubtful)

    def get(self, register: int) -> Value:
        return StackPointer(len(self.stacks) - 1, 0) if register == STACK_REGISTER else self.registers[register]

    def replace(self, change: Callable[[Value], Value]) -> None:
        """Change what is known, wherever it is held."""
        self.registers = [change(value) for value in self.registers]
        self.frames = tuple((slot, tuple(map(change, saved))) for slot, saved in self.frames)
        self.stacks = tuple(
            {at: (size, new) for at, (size, value) in stack.items() if (new := change(value)) is not None}
            for stack in self.stacks
        )

    def joined(self, other: _State) -> _State:
        """What is known in both; they have the same frames."""
        registers = [join(a, b) for a, b in zip(self.registers, other.registers, strict=True)]
        frames = tuple(
            (slot, tuple(join(a, b) for a, b in zip(saved, others, strict=True)))
            for (slot, saved), (_, others) in zip(self.frames, other.frames, strict=True)
        )
        stacks = tuple(_joined_stack(a, b) for a, b in zip(self.stacks, other.stacks, strict=True))
        written = tuple(a | b for a, b in zip(self.written, other.written, strict=True))
        return _State(registers, frames, stacks, written, is_doubtful=self.is_doubtful or other.is_doubtful)

    def write(self, frame: int, offset: int | None = None, size: int = 0) -> None:
        """Note that bytes of a frame are perhaps written; without an offset, all of them."""
        new = self.written[frame] | (_WHOLE_STACK if offset is None else _bits(offset, size))
        if new != self.written[frame]:
            self.written = (*self.written[:frame], new, *self.written[frame + 1 :])

    def forget_stacks(self) -> None:
        for stack in self.stacks:
            _forget(stack)

    def write_everywhere(self) -> None:
        self.written = (_WHOLE_STACK,) * len(self.written)

    def has_unwritten(self, pointer: StackPointer, size: int) -> bool:
        """Whether some of the bytes from there on were surely never written."""
        if pointer.offset is None:
            return False
        bits = _bits(pointer.offset, size)
        return self.written[pointer.frame] & bits != bits


def _forget(stack: _Stack, low: int | None = None) -> None:
    """Forget what is on a stack, from an offset on or all of it. Where a pointer to the stack was, one may still be."""
    for offset in list(stack):
        size, value = stack[offset]
        if low is None or offset + size > low:
            if isinstance(value, StackPointer):
                stack[offset] = (size, PERHAPS_STACK)
            elif value is not PERHAPS_STACK:
                del stack[offset]


def _joined_stack(a: _Stack, b: _Stack) -> _Stack:
    result: _Stack = {}
    for offset in a.keys() | b.keys():
        size, value = a.get(offset) or (b[offset][0], None)
        other_size, other = b.get(offset) or (size, None)
        value = join(value, other if size == other_size else None)
        if value is not None:
            # what is a pointer on one path only may still be written through
            result[offset] = (size, value)
    return result


def _read_stack(stack: _Stack, offset: int, size: int, slot: int) -> Value:
    """What is known of bytes on the stack that the instruction at a slot reads."""
    found = stack.get(offset)
    if found is not None and found[0] == size:
        return found[1]
    for start, (length, value) in stack.items():
        is_within = start <= offset and offset + size <= start + length
        if is_within and isinstance(value, Varying) and value == anything(value.trace[0], length):
            return anything(slot, size)
    # bytes that are 0 are known one by one
    at = offset
    while at < offset + size:
        for start, (length, value) in stack.items():
            if start <= at < start + length and value == 0:
                at = start + length
                break
        else:
            return None
    return 0


@dataclass(slots=True, eq=False)
class _Node:
    """A straight piece of code, entered in one state, and what follows it."""

    slot: int
    state: _State
    successors: tuple[int, ...] = ()
    names: frozenset[str] | None = None
    """What decides a branch at load: then only one of the successors is walked, else all are."""
    hazards: frozenset[int] = frozenset()


class _Walk:
    def __init__(self, code: Code, facts: Facts, *, max_states: int) -> None:
        self.code = code
        self.linked = code.linked
        self.insns = code.linked.insns
        self.facts = facts
        self.max_states = max_states
        self.nodes: list[_Node] = []
        self.known: dict[tuple[object, ...], int] = {}
        """(slot, callers, state) -> node."""
        self.count: dict[tuple[object, ...], int] = {}
        """(slot, callers) -> number of nodes."""
        self.joined: dict[tuple[object, ...], int] = {}
        """(slot, callers) -> the node of what is joined there."""
        self.pending: list[int] = []
        self.reached: set[int] = set()
        self.depends_on_opaque = False
        self.met: set[int] = set()
        """Hazards in the piece of code that is being followed."""
        self.missing_arguments: dict[int, int] = {}
        self.walked = 0
        """Instructions that were followed so far."""
        self.moved_context: set[int] = set()
        self.refused_context: set[int] = set()
        self.refused_returns: dict[int, int] = {}
        self.refusals: dict[int, VerifierRefusal] = {}
        self.tells_varying = facts.tells_varying
        self.filled = FILLED | {GET_STACK} if code.around.stack_helper_fills else FILLED

    def run(self, most_segments: int, most_insns: int) -> bool:
        """Walk to the end; False if it takes more pieces or instructions."""
        self.entries = [self._enter(0, _State([None, ContextPointer(0), *[None] * 9]))]
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

    def _enter(self, slot: int, state: _State) -> int:
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
        return self._enter(self.linked.starts[index], _State(passed))

    def _add(self, slot: int, state: _State) -> int:
        self.nodes.append(_Node(slot, state))
        self.pending.append(len(self.nodes) - 1)
        return len(self.nodes) - 1

    def _follow(self, node: _Node) -> None:
        """Execute up to the next branch, label or exit."""
        state, slot = node.state.copy(), node.slot
        insns, steps, labels, hazards = self.insns, self.code.steps, self.code.labels, self.facts.hazards
        reached = self.reached
        self.met = set()
        extra: list[int] = []
        successors: list[int] = []
        names: frozenset[str] | None = None
        while slot < len(insns):
            insn, step = insns[slot], steps[slot]
            reached.add(slot)
            if slot in hazards:
                self.met.add(slot)
            if step == _PLAIN:
                slot = self._step(state, slot, insn)
            elif step == _HELPER:
                if slot in self.code.throws:
                    break
                extra += self._helper(state, slot, insn)
                slot += 1
            elif step == _EXIT:
                self._check_return(state, slot)
                successors += self._leave(state)
                break
            elif step == _BRANCH:
                successors, names = self._branch(state, slot, insn)
                break
            elif step == _GOTO:
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
            self.nodes.append(_Node(slot, node.state, tuple(successors), names))
            successors, names = [len(self.nodes) - 1], None
        node.successors = (*successors, *extra)
        node.names = names
        node.hazards = frozenset(self.met)

    def _branch(self, state: _State, slot: int, insn: Insn) -> tuple[list[int], frozenset[str] | None]:
        there, here = slot + 1 + insn.jump, slot + 1
        left = state.get(insn.dst)
        right: Value = state.get(insn.src) if insn.uses_register else insn.imm & 0xFFFFFFFF_FFFFFFFF
        bits = 64 if insn.cls is Class.JMP else 32
        outcome = _decided(compare(insn.op, left, right, bits=bits), insn, self.facts.verifier)
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
            self.depends_on_opaque |= isinstance(outcome, Opaque)
            for way, is_true in ((taken, True), (not_taken, False)) if self.tells_varying else ():
                _learn(way, insn.op, left, right, is_true=is_true, bits=bits, is_old=bool(self.facts.watched))
        return [self._enter(there, taken), self._enter(here, not_taken)], names

    def _call(self, state: _State, slot: int) -> list[int]:
        """A call of a subprogram, walked with what is known here unless the verifier checks it alone."""
        index = self.linked.calls[slot]
        function, start = self.linked.functions[index], self.linked.starts[index]
        if len(state.frames) + 1 >= MAX_FRAMES:
            self._forget_call(state)
            return [self._enter(slot + 1, state)]
        if function.is_global and self.facts.verifier.checks_globals_alone:
            self._forget_call(state)
            return [self._enter(slot + 1, state), self._enter_alone(index)]
        live = self.code.live[slot + 1]
        saved = tuple(state.registers[r] if live >> r & 1 else None for r in range(6, 10))
        registers = [None, *state.registers[1:6], *[None] * 5]
        frames, stacks = (*state.frames, (slot + 1, saved)), (*state.stacks, {})
        inner = _State(registers, frames, stacks, (*state.written, 0), is_doubtful=state.is_doubtful)
        return [self._enter(start, inner)]

    def _check_return(self, state: _State, slot: int) -> None:
        """Check what the program itself returns. Callbacks, and functions checked alone, have rules of their own."""
        allowed, result = self.facts.returns, state.registers[0]
        if allowed is None or state.frames or slot >= self.code.end or state.is_doubtful:
            return
        possible = (result,) if isinstance(result, int) else result.ends if isinstance(result, Varying) else ()
        for one in possible:
            if not is_allowed(one, allowed):
                self.met.add(slot)
                self.refused_returns[slot] = one

    def _refuse(self, state: _State, slot: int, refusal: VerifierRefusal) -> None:
        if not state.is_doubtful and (slot, refusal) in self.facts.watched:
            self.met.add(slot)
            self.refusals[slot] = refusal

    def _leave(self, state: _State) -> list[int]:
        if not state.frames:
            return []
        slot, saved = state.frames[-1]
        result = state.registers[0]
        frame = len(state.stacks) - 1
        if isinstance(result, StackPointer) and result.frame == frame:
            result = None
        registers = [result, *[None] * 5, *saved, None]
        stacks, written = state.stacks[:-1], state.written[:-1]
        outer = _State(registers, state.frames[:-1], stacks, written, is_doubtful=state.is_doubtful)
        return [self._enter(slot, outer)]

    def _helper(self, state: _State, slot: int, insn: Insn) -> list[int]:
        """A call of a helper or kfunc; returns the nodes of callbacks that it is given."""
        callbacks = [value for value in state.registers[1:6] if isinstance(value, FunctionPointer)]
        helper = insn.imm if insn.src == 0 and slot not in self.linked.kfunc_calls else None
        if self.facts.watched:
            self._check_memory(state, slot, helper)
            self._note_writes(state, helper, calls_back=bool(callbacks))
        buffer = None if helper is None else BUFFERS.get(helper)
        fills = helper in self.filled and self.tells_varying
        if not (helper in READING_HELPERS and self.facts.verifier.spares_what_is_read):
            for register in range(1, 6):
                value = state.registers[register]
                if value is PERHAPS_STACK:
                    state.forget_stacks()
                elif isinstance(value, StackPointer):
                    size = state.registers[register + 1] if register == buffer else None
                    if callbacks:
                        # what is there may in turn point anywhere into the stacks
                        state.forget_stacks()
                    elif isinstance(size, int) and size <= STACK_SIZE:
                        self._store(state, value, 0, size, anything(slot, size) if fills and size else None)
                    else:
                        # the helper may write anywhere up to the top of the frame
                        _forget(state.stacks[value.frame], None if value.offset is None else value.offset & ~7)
        state.registers[:6] = [None] * 6
        if self.tells_varying and helper == MAP_LOOKUP:
            state.registers[0] = MapValue(slot)
        elif self.tells_varying and helper == RESERVE:
            state.registers[0] = RingBufferSpace()
        elif self.tells_varying and helper in ANY_NUMBER:
            state.registers[0] = anything(slot, 8)
        return [self._enter(self.linked.starts[value.index], _State([None] * 11)) for value in callbacks]

    def _check_memory(self, state: _State, slot: int, helper: int | None) -> None:
        """What some verifiers refuse of the memory that a helper is given."""
        if helper is None:
            return
        if helper in SUBMIT and state.registers[1] == RingBufferSpace(is_lost=True):
            self._refuse(state, slot, VerifierRefusal.LOST_POINTER)
        registers = KEYS_AND_VALUES.get(helper, ())
        sizes = self.code.around.sizes.get(slot, (0, 0))
        memory = list(zip((state.registers[register] for register in registers), sizes, strict=False))
        if any(isinstance(pointer, MapValue) for pointer, _ in memory):
            self._refuse(state, slot, VerifierRefusal.MAP_VALUE)
        if helper in BUFFERS:
            size = state.registers[BUFFERS[helper] + 1]
            if helper in NEVER_EMPTY and (size == 0 or (isinstance(size, Varying) and size.low == 0)):
                self._refuse(state, slot, VerifierRefusal.EMPTY_BUFFER)
            # what a helper fills has to be written before only where it perhaps fills less
            most = size.high if isinstance(size, Varying) else 0 if helper in self.filled else size
            memory.append((state.registers[BUFFERS[helper]], most if isinstance(most, int) else 0))
        for pointer, most in memory:
            if isinstance(pointer, ContextPointer):
                self._refuse(state, slot, VerifierRefusal.CONTEXT_PASSED)
            if not isinstance(pointer, StackPointer):
                continue
            if pointer.varies:
                self._refuse(state, slot, VerifierRefusal.VARIABLE_STACK)
            elif pointer.offset is not None and pointer.offset + most > 0:
                self._refuse(state, slot, VerifierRefusal.BEYOND_STACK)
            elif state.has_unwritten(pointer, min(most, STACK_SIZE)):
                self._refuse(state, slot, VerifierRefusal.UNWRITTEN_STACK)

    def _note_writes(self, state: _State, helper: int | None, *, calls_back: bool) -> None:
        """What a helper or kfunc perhaps writes to the stack."""
        if helper in READING_HELPERS and not calls_back:
            return
        for register in range(1, 6):
            pointer = state.registers[register]
            if pointer is PERHAPS_STACK or (calls_back and isinstance(pointer, StackPointer)):
                state.write_everywhere()
            elif isinstance(pointer, StackPointer) and helper not in self.filled:
                state.write(pointer.frame)
            elif isinstance(pointer, StackPointer) and helper is not None and register == BUFFERS[helper]:
                size = state.registers[register + 1]
                if not isinstance(size, Varying):  # else nothing counts as written that was not before
                    state.write(pointer.frame, pointer.offset, size if isinstance(size, int) else STACK_SIZE)

    def _forget_call(self, state: _State) -> None:
        for register in range(1, 6):
            value = state.registers[register]
            if value is PERHAPS_STACK:
                state.forget_stacks()
                state.write_everywhere()
            elif isinstance(value, StackPointer):
                _forget(state.stacks[value.frame])
                state.write(value.frame)
        state.registers[:6] = [None] * 6

    def _step(self, state: _State, slot: int, insn: Insn) -> int:
        """Execute anything but jumps and calls; returns the next slot."""
        cls = insn.cls
        registers = state.registers
        if cls in (Class.ALU64, Class.ALU):
            registers[insn.dst] = self._alu(state, slot, insn)
        elif cls is Class.LDX:
            self._access(state, slot, state.get(insn.src))
            registers[insn.dst] = self._load(state, slot, insn)
        elif cls is Class.STX:
            pointer = state.get(insn.dst)
            self._access(state, slot, pointer)
            if insn.mode == Mode.ATOMIC and insn.imm == LOAD_ACQUIRE:
                registers[insn.dst] = self._load(state, slot, insn)
            elif insn.mode == Mode.ATOMIC and insn.imm != STORE_RELEASE:
                self._write(state, pointer, insn, None)
                # a fetching operation puts the old value in src, or for a compare-and-exchange in r0
                registers[insn.src] = registers[0] = None
            else:
                self._write(state, pointer, insn, state.get(insn.src))
        elif cls is Class.ST:
            self._access(state, slot, state.get(insn.dst))
            value = insn.imm & 0xFFFFFFFF_FFFFFFFF if self.facts.verifier.follows_immediate_stores else None
            self._write(state, state.get(insn.dst), insn, value)
        elif insn.is_wide:
            registers[insn.dst] = self._immediate(slot, insn)
            return slot + 2
        else:
            # LD_ABS and LD_IND: r0 becomes packet bytes, r1 to r5 are lost
            registers[:6] = [None] * 6
            if self.tells_varying:
                registers[0] = anything(slot, insn.size)
        return slot + 1

    def _alu(self, state: _State, slot: int, insn: Insn) -> Value:
        code, _, src, off, imm = insn
        bits = 64 if code & 7 == Class.ALU64 else 32
        if slot in self.facts.hazards:
            return None
        operand: Value
        if code & 8:
            operand = state.get(src)
            if code & 0xF0 == AluOp.MOV and off in (8, 16, 32):
                return truncate(sign_extend(operand, off // 8), bits // 8)
        else:
            operand = self.facts.immediates.get(slot, imm & 0xFFFFFFFF_FFFFFFFF)
            if isinstance(operand, int):
                # the instruction has 32 bits for it, which count as signed
                operand = sign_extend(operand, 4)
        gives_up_on = self.facts.verifier.gives_up_on
        return alu(code & 0xF0, state.get(insn.dst), operand, bits=bits, slot=slot, gives_up_on=gives_up_on)

    def _immediate(self, slot: int, insn: Insn) -> Value:
        if slot in self.facts.hazards:
            return None
        if slot in self.facts.immediates:
            return self.facts.immediates[slot]
        if slot in self.linked.addresses:
            return FunctionPointer(self.linked.addresses[slot])
        reference = self.linked.references.get(slot)
        if reference is None:
            if insn.src and insn.src != PseudoSrc.FUNC:
                return None
            return wide_immediate(insn, self.insns[slot + 1])
        match reference.to:
            case RefersTo.DATA if reference.name == ARENA_SECTION:
                return None  # a number like any other, until the program casts it to a pointer
            case RefersTo.DATA:
                return DataPointer(reference.name, reference.offset)
            case RefersTo.KCONFIG:
                return DataPointer(reference.name, 0, is_kconfig=True)
            case RefersTo.KSYM:
                return self.facts.externs.get(reference.name)
            case _:
                return None

    def _access(self, state: _State, slot: int, pointer: Value) -> None:
        """A load or store: what some verifiers, or all, refuse of its address."""
        if isinstance(pointer, StackPointer) and pointer.varies:
            self._refuse(state, slot, VerifierRefusal.VARIABLE_STACK)
        if pointer == RingBufferSpace(is_lost=True):
            self._refuse(state, slot, VerifierRefusal.LOST_POINTER)
        if not isinstance(pointer, ContextPointer):
            return
        if pointer.offset is None:
            # moved by a number that is perhaps only kept back
            self.depends_on_opaque = True
        elif pointer.offset:
            self.met.add(slot)
            self.moved_context.add(slot)
        elif slot in self.facts.context:
            self.met.add(slot)
            self.refused_context.add(slot)

    def _load(self, state: _State, slot: int, insn: Insn) -> Value:
        pointer, size = state.get(insn.src), insn.size
        match pointer:
            case StackPointer(frame, int(offset)):
                if state.has_unwritten(StackPointer(frame, offset + insn.off), size):
                    self._refuse(state, slot, VerifierRefusal.UNWRITTEN_STACK)
                value = _read_stack(state.stacks[frame], offset + insn.off, size, slot)
            case DataPointer(name, int(offset), is_kconfig) if self.facts.verifier.reads_frozen_maps:
                if is_kconfig:
                    value = self.facts.externs.get(name, Settable(frozenset({name})))
                    value = truncate(value, size) if offset + insn.off == 0 else Settable(frozenset({name}))
                elif self._is_variable(name):
                    value = anything(slot, size)
                else:
                    value = self.code.read_global(name, offset + insn.off, size)
            case ContextPointer(int(offset)):
                if self.facts.arguments is not None and offset + insn.off >= 8 * self.facts.arguments:
                    self.met.add(slot)
                    self.missing_arguments[slot] = (offset + insn.off) // 8
                return self._field(slot, size) if insn.mode == Mode.MEM else None
            case MapValue() | PacketPointer() | RingBufferSpace() if insn.mode == Mode.MEM:
                return anything(slot, size)
            case DataPointer(name, _, False) if self._is_variable(name) and insn.mode == Mode.MEM:
                return anything(slot, size)
            case _:
                return PERHAPS_STACK if isinstance(pointer, StackPointer) and size == 8 else None
        if insn.mode == Mode.MEMSX:
            return sign_extend(value, size)
        return value

    def _is_variable(self, section: str) -> bool:
        """Whether no verifier like this one knows what a section holds."""
        reads_frozen = self.facts.verifier.reads_frozen_maps
        return self.tells_varying and not (reads_frozen and is_read_only(section))

    def _field(self, slot: int, size: int) -> Value:
        """What is in the context."""
        around = self.code.around
        if not self.tells_varying:
            return None
        if slot in around.packet:
            return PACKET
        # what is as wide as a pointer may be one
        return anything(slot, size) if size < 8 or around.has_numbers_only else None

    def _write(self, state: _State, pointer: Value, insn: Insn, value: Value) -> None:
        """A store by an instruction of the program itself."""
        kept = RingBufferSpace(is_lost=True) if isinstance(value, RingBufferSpace) else value
        self._store(state, pointer, insn.off, insn.size, kept)
        if self.facts.watched and pointer is PERHAPS_STACK:
            state.write_everywhere()
        elif self.facts.watched and isinstance(pointer, StackPointer):
            offset = None if pointer.offset is None else pointer.offset + insn.off
            state.write(pointer.frame, offset, insn.size)

    def _store(self, state: _State, pointer: Value, shift: int, size: int, value: Value) -> None:
        if not isinstance(pointer, StackPointer):
            if pointer is PERHAPS_STACK:
                state.forget_stacks()
            return
        stack = state.stacks[pointer.frame]
        if pointer.offset is None:
            _forget(stack)
            return
        offset = pointer.offset + shift
        # the verifier keeps what is known in slots of eight bytes, and a write into one may cost it all that was there
        low, high = offset & ~7, (offset + size + 7) & ~7
        for start in list(stack):
            if start < high and low < start + stack[start][0]:
                del stack[start]
        if isinstance(value, StackPointer) and value.frame > pointer.frame:
            return  # the verifier refuses a caller's frame that points into that of the function it called
        kept = truncate(value, size)
        if isinstance(value, int) and kept != value:
            return  # the verifier looks at the register, of which this is a part
        if kept is not None and self._is_kept(offset, size, kept):
            stack[offset] = (size, kept)

    def _is_kept(self, offset: int, size: int, value: Value) -> bool:
        """Whether the verifier remembers a value that is stored on the stack."""
        verifier = self.facts.verifier
        if isinstance(value, Varying) or (value == 0 and verifier.follows_spilled_zeros):
            return True
        if size == 8:
            return verifier.follows_spills or not isinstance(value, (int, Settable, Opaque))
        return verifier.follows_small_spills and offset % 8 == 0

    def result(self, given_up: int, gave_up_at: int | None) -> Reach:
        """Put the pieces together: what is certain, and what hangs on which conditions."""
        predecessors: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for successor in dict.fromkeys(node.successors):
                predecessors[successor].append(index)
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
                    raise ObjectError(
                        "has more conditions than any real program: split it", source=self.linked.program.name
                    )
                alike[starts] = self._exposure(starts, predecessors)
            exposures[slot] = alike[starts]
        looked_at = len(alike) * len(self.nodes) // _NODES_PER_INSN
        hazardous = [index for index, node in enumerate(self.nodes) if node.hazards]
        return Reach(
            hazards=exposures,
            missing_arguments=self.missing_arguments,
            refused_context=frozenset(self.refused_context),
            moved_context=frozenset(self.moved_context),
            refused_returns=self.refused_returns,
            refusals=self.refusals,
            certain=self._is_certain(hazardous, predecessors),
            reached=frozenset(self.reached),
            depends_on_opaque=self.depends_on_opaque,
            cost=Cost(self.walked, looked_at, None)
            if gave_up_at is None
            else Cost(given_up, self.walked + looked_at, gave_up_at),
        )

    def _exposure(self, starts: Sequence[int], predecessors: list[list[int]]) -> Exposure:
        """How a hazard is reached that is in these pieces of code."""
        if self._is_certain(starts, predecessors):
            return Exposure(certain=True)
        leading = self._leading_to(starts, predecessors)
        branches = [(node.names, node.successors) for node in map(self.nodes.__getitem__, leading) if node.names]
        deciding = [names for names, successors in branches if not leading.issuperset(successors)]
        return Exposure(certain=False, conditions=frozenset().union(*(deciding or (names for names, _ in branches))))

    def _is_certain(self, starts: Iterable[int], predecessors: list[list[int]]) -> bool:
        """Whether one of these nodes is reached whatever is set before the load."""
        return not self._leading_to(starts, predecessors, for_certain=True).isdisjoint(self.entries)

    def _leading_to(
        self, starts: Iterable[int], predecessors: list[list[int]], *, for_certain: bool = False
    ) -> set[int]:
        """Nodes from which one of `starts` may be reached, or is reached whatever is set before the load.

        For certain, a branch decided at load has to lead there both ways; any other leads there if one way does.
        """
        found = set(starts)
        pending = list(found)
        while pending:
            for index in predecessors[pending.pop()]:
                node = self.nodes[index]
                needs_both_ways = for_certain and node.names is not None
                if index not in found and (not needs_both_ways or found.issuperset(node.successors)):
                    found.add(index)
                    pending.append(index)
        return found
