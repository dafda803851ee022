"""What an instruction changes in a state, and which hazards only that shows: all but jumps and calls of functions.

Input: a program, the facts of a kernel, a `State` and an instruction. Output: the changed state; the hazards that were
found, which `Execution` collects for the whole walk.
"""

from __future__ import annotations

from hatch_bpf.objects.insns import (
    LOAD_ACQUIRE,
    STACK_SIZE,
    STORE_RELEASE,
    AluOp,
    Class,
    Insn,
    Mode,
    PseudoSrc,
    wide_immediate,
)
from hatch_bpf.objects.linked_program import RefersTo
from hatch_bpf.objects.model import ARENA_SECTION
from hatch_bpf.verifier.code import Code
from hatch_bpf.verifier.facts import Facts, VerifierRefusal, is_allowed
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
from hatch_bpf.verifier.state import State, forget, read_stack
from hatch_bpf.verifier.values import (
    PACKET,
    PERHAPS_STACK,
    ContextPointer,
    DataPointer,
    FunctionPointer,
    MapValue,
    Opaque,
    PacketPointer,
    RingBufferSpace,
    Settable,
    StackPointer,
    Value,
    alu,
    sign_extend,
    truncate,
)
from hatch_bpf.verifier.varying import Varying, anything


class Execution:
    """Instructions of one program on one kernel, and what was found in them."""

    def __init__(self, code: Code, facts: Facts) -> None:
        self.code = code
        self.linked = code.linked
        self.insns = code.linked.insns
        self.facts = facts
        self.tells_varying = facts.tells_varying
        self.filled = FILLED | {GET_STACK} if code.around.stack_helper_fills else FILLED
        self.depends_on_opaque = False
        self.met: set[int] = set()
        """Hazards in the piece of code that is being followed."""
        self.missing_arguments: dict[int, int] = {}
        self.moved_context: set[int] = set()
        self.refused_context: set[int] = set()
        self.refused_returns: dict[int, int] = {}
        self.refusals: dict[int, VerifierRefusal] = {}

    def step(self, state: State, slot: int, insn: Insn) -> int:
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

    def helper(self, state: State, slot: int, insn: Insn) -> list[FunctionPointer]:
        """A call of a helper or kfunc; returns the callbacks that it is given."""
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
                        forget(state.stacks[value.frame], None if value.offset is None else value.offset & ~7)
        state.registers[:6] = [None] * 6
        if self.tells_varying and helper == MAP_LOOKUP:
            state.registers[0] = MapValue(slot)
        elif self.tells_varying and helper == RESERVE:
            state.registers[0] = RingBufferSpace()
        elif self.tells_varying and helper in ANY_NUMBER:
            state.registers[0] = anything(slot, 8)
        return callbacks

    def check_return(self, state: State, slot: int) -> None:
        """Check what the program itself returns. Callbacks, and functions checked alone, have rules of their own."""
        allowed, result = self.facts.returns, state.registers[0]
        if allowed is None or state.frames or slot >= self.code.end or state.is_doubtful:
            return
        possible = (result,) if isinstance(result, int) else result.ends if isinstance(result, Varying) else ()
        for one in possible:
            if not is_allowed(one, allowed):
                self.met.add(slot)
                self.refused_returns[slot] = one

    def _refuse(self, state: State, slot: int, refusal: VerifierRefusal) -> None:
        if not state.is_doubtful and (slot, refusal) in self.facts.watched:
            self.met.add(slot)
            self.refusals[slot] = refusal

    def _check_memory(self, state: State, slot: int, helper: int | None) -> None:
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

    def _note_writes(self, state: State, helper: int | None, *, calls_back: bool) -> None:
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

    def _alu(self, state: State, slot: int, insn: Insn) -> Value:
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

    def _access(self, state: State, slot: int, pointer: Value) -> None:
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

    def _load(self, state: State, slot: int, insn: Insn) -> Value:
        pointer, size = state.get(insn.src), insn.size
        match pointer:
            case StackPointer(frame, int(offset)):
                if state.has_unwritten(StackPointer(frame, offset + insn.off), size):
                    self._refuse(state, slot, VerifierRefusal.UNWRITTEN_STACK)
                value = read_stack(state.stacks[frame], offset + insn.off, size, slot)
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

    def _write(self, state: State, pointer: Value, insn: Insn, value: Value) -> None:
        """A store by an instruction of the program itself."""
        kept = RingBufferSpace(is_lost=True) if isinstance(value, RingBufferSpace) else value
        self._store(state, pointer, insn.off, insn.size, kept)
        if self.facts.watched and pointer is PERHAPS_STACK:
            state.write_everywhere()
        elif self.facts.watched and isinstance(pointer, StackPointer):
            offset = None if pointer.offset is None else pointer.offset + insn.off
            state.write(pointer.frame, offset, insn.size)

    def _store(self, state: State, pointer: Value, shift: int, size: int, value: Value) -> None:
        if not isinstance(pointer, StackPointer):
            if pointer is PERHAPS_STACK:
                state.forget_stacks()
            return
        stack = state.stacks[pointer.frame]
        if pointer.offset is None:
            forget(stack)
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
