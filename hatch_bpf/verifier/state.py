"""What the walk knows at one place of a program: registers, the stack of every frame, and what was written there.

Input: abstract values, and what instructions do to them. Output: `State`, which can be copied, compared and joined
with another; what is known of bytes on a stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hatch_bpf.objects.insns import STACK_REGISTER, STACK_SIZE
from hatch_bpf.verifier.values import PERHAPS_STACK, StackPointer, Value, join
from hatch_bpf.verifier.varying import Varying, anything

_WHOLE_STACK = (1 << STACK_SIZE) - 1


def _bits(offset: int, size: int) -> int:
    """Bits for bytes of a frame."""
    return ((1 << size) - 1) << (STACK_SIZE + offset) & _WHOLE_STACK if offset >= -STACK_SIZE and size > 0 else 0


_Stack = dict[int, tuple[int, Value]]
"""Offset in a frame -> size and what is known of the bytes there."""


@dataclass(slots=True, eq=False)
class State:
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

    def copy(self) -> State:
        stacks = tuple(dict(stack) for stack in self.stacks)
        return State(list(self.registers), self.frames, stacks, self.written, is_doubtful=self.is_doubtful)

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

    def joined(self, other: State) -> State:
        """What is known in both; they have the same frames."""
        registers = [join(a, b) for a, b in zip(self.registers, other.registers, strict=True)]
        frames = tuple(
            (slot, tuple(join(a, b) for a, b in zip(saved, others, strict=True)))
            for (slot, saved), (_, others) in zip(self.frames, other.frames, strict=True)
        )
        stacks = tuple(_joined_stack(a, b) for a, b in zip(self.stacks, other.stacks, strict=True))
        written = tuple(a | b for a, b in zip(self.written, other.written, strict=True))
        return State(registers, frames, stacks, written, is_doubtful=self.is_doubtful or other.is_doubtful)

    def write(self, frame: int, offset: int | None = None, size: int = 0) -> None:
        """Note that bytes of a frame are perhaps written; without an offset, all of them."""
        new = self.written[frame] | (_WHOLE_STACK if offset is None else _bits(offset, size))
        if new != self.written[frame]:
            self.written = (*self.written[:frame], new, *self.written[frame + 1 :])

    def forget_stacks(self) -> None:
        for stack in self.stacks:
            forget(stack)

    def write_everywhere(self) -> None:
        self.written = (_WHOLE_STACK,) * len(self.written)

    def has_unwritten(self, pointer: StackPointer, size: int) -> bool:
        """Whether some of the bytes from there on were surely never written."""
        if pointer.offset is None:
            return False
        bits = _bits(pointer.offset, size)
        return self.written[pointer.frame] & bits != bits

    def forget_call(self) -> None:
        """Forget what a called function may change."""
        for register in range(1, 6):
            value = self.registers[register]
            if value is PERHAPS_STACK:
                self.forget_stacks()
                self.write_everywhere()
            elif isinstance(value, StackPointer):
                forget(self.stacks[value.frame])
                self.write(value.frame)
        self.registers[:6] = [None] * 6


def forget(stack: _Stack, low: int | None = None) -> None:
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


def read_stack(stack: _Stack, offset: int, size: int, slot: int) -> Value:
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
