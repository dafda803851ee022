"""The walk over states: where they are joined, what is certain, functions and callbacks."""

from __future__ import annotations

import pytest

from hatch_bpf.objects.insns import AluOp, Class, Insn, JmpOp, Mode
from hatch_bpf.objects.linked_program import LinkedProgram
from hatch_bpf.verifier import walk as walking
from hatch_bpf.verifier.abilities import Verifier
from hatch_bpf.verifier.values import OPAQUE
from tests.verifier.programs import (
    AT_2,
    CFG,
    DATA,
    DW,
    EXIT,
    HAZARD,
    RANDOM,
    SKIP_HAZARD,
    W,
    alu,
    alu_reg,
    call,
    is_reached,
    jump,
    load,
    mov,
    mov_reg,
    program,
    store,
    walk,
)


def test_what_differs_from_run_to_run_goes_both_ways() -> None:
    assert is_reached(call(RANDOM), jump(JmpOp.JEQ, 0, 5, 1), *SKIP_HAZARD)
    assert is_reached(call(RANDOM), jump(JmpOp.JNE, 0, 5, 1), *SKIP_HAZARD)


def test_a_pointer_that_only_one_path_has_may_still_be_written_through() -> None:
    """Where states are joined, `perhaps a pointer to the stack` must not become `no pointer`."""
    one_path = [
        mov(6, 1),
        store(DW, -8, 6),
        mov_reg(7, 10),
        alu(AluOp.ADD, 7, -8),
        mov(9, 0),
    ]
    branches = []
    for number in range(2 * walking.MAX_STATES):
        branches += [call(RANDOM), jump(JmpOp.JEQ, 0, number, 1), alu(AluOp.ADD, 9, 1 << number)]
    write = [
        call(RANDOM),
        jump(JmpOp.JEQ, 0, 77, 1),
        mov(7, 0),
        jump(JmpOp.JEQ, 7, 0, 1),
        Insn(Class.STX | Mode.MEM | DW, 7, 0, 0, 0),
        load(DW, 3, -8),
        alu_reg(AluOp.ADD, 3, 9),
        alu_reg(AluOp.SUB, 3, 9),
        load(DW, 3, -8),
        jump(JmpOp.JEQ, 3, 1, 1),
    ]
    assert is_reached(*one_path, *branches, *write, *SKIP_HAZARD)


def test_loops_end() -> None:
    counted = (mov(6, 0), call(RANDOM), alu(AluOp.ADD, 6, 1), jump(JmpOp.JLT, 6, 1000, -3))
    assert is_reached(*counted, HAZARD)
    assert is_reached(call(RANDOM), jump(JmpOp.JNE, 0, 5, -2), HAZARD)
    assert not is_reached(*counted, mov(7, 3), jump(JmpOp.JEQ, 7, 3, 1), *SKIP_HAZARD)


def test_joining_at_once_still_comes_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (call(RANDOM), jump(JmpOp.JEQ, 0, 1, 1), mov(6, 1), jump(JmpOp.JEQ, 6, 1, 1), *SKIP_HAZARD)
    guarded = (mov(6, 1), call(RANDOM), jump(JmpOp.JEQ, 0, 1, 0), jump(JmpOp.JEQ, 6, 1, 1), *SKIP_HAZARD)
    monkeypatch.setattr(walking, "MAX_SEGMENTS", 1)
    assert is_reached(mov(6, 0), *code)
    assert not is_reached(*guarded)


def test_a_branch_fixed_at_load_makes_a_condition() -> None:
    linked = program(*DATA, load(W, 1, 0, 2), jump(JmpOp.JEQ, 1, 0, 1), *SKIP_HAZARD, EXIT, references=AT_2)
    reach = walk(linked, data=CFG)
    assert not reach.certain
    (exposure,) = reach.hazards.values()
    assert not exposure.certain
    assert exposure.conditions == {"cfg"}
    assert walk(linked, data=0).hazards == {}
    assert walk(linked, data=1).certain
    # an old verifier reads nothing from the map, so for it the value differs from run to run
    assert walk(linked, data=CFG, verifier=Verifier(reads_frozen_maps=False)).certain


def test_a_hazard_on_each_side_of_a_condition_is_certain() -> None:
    linked = program(
        *DATA,
        load(W, 1, 0, 2),
        jump(JmpOp.JEQ, 1, 0, 2),
        HAZARD,
        jump(JmpOp.JEQ, 10, 0, 1),
        HAZARD,
        mov(0, 0),
        EXIT,
        references=AT_2,
    )
    reach = walk(linked, data=CFG)
    assert reach.certain
    assert [exposure.certain for exposure in reach.hazards.values()] == [False, True]


def test_a_number_that_is_kept_back_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through arithmetic, the stack, sign extension and joins: any of them may hand it on to a branch."""
    guard = (jump(JmpOp.JEQ, 6, 1, 1), *SKIP_HAZARD, EXIT)
    extend = Insn(Class.ALU64 | AluOp.MOV | 8, 6, 6, 8, 0)
    join = (call(RANDOM), jump(JmpOp.JEQ, 0, 5, 1), mov(6, 8))
    steps: list[tuple[Insn, ...]] = [
        (alu(AluOp.ADD, 6, 1),),
        (alu(AluOp.ADD, 6, 1, Class.ALU),),
        (store(W, -8, 6), load(W, 6, -8)),
        (extend,),
        join,
    ]
    monkeypatch.setattr(walking, "MAX_STATES", 0)
    for step in steps:
        assert walk(program(mov(6, 8), *step, *guard), immediates={0: OPAQUE}).depends_on_opaque, step


def test_a_loop_that_hangs_on_a_condition_names_it() -> None:
    """Both ways lead to the hazard, though one of them comes round for ever."""
    linked = program(*DATA, load(W, 1, 0, 2), jump(JmpOp.JEQ, 1, 0, -1), HAZARD, EXIT, references=AT_2)
    assert walk(linked, data=CFG).hazards[4].conditions == {"cfg"}


def _with_subprogram(argument: int, *, is_global: bool) -> LinkedProgram:
    """Calls f1(argument), which meets the hazard unless the argument is 1."""
    pseudo = Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 1)
    main = (mov(1, argument), pseudo, EXIT)
    return program(*main, jump(JmpOp.JEQ, 1, 1, 1), HAZARD, mov(0, 0), EXIT, functions=[(3, is_global)], calls={1: 1})


def test_a_static_subprogram_is_walked_with_its_arguments() -> None:
    assert walk(_with_subprogram(1, is_global=False)).hazards == {}
    assert walk(_with_subprogram(0, is_global=False)).certain


def test_a_global_subprogram_is_walked_for_any_arguments() -> None:
    assert walk(_with_subprogram(1, is_global=True)).certain


def test_old_verifiers_walk_a_global_subprogram_as_a_static_one() -> None:
    old = Verifier(checks_globals_alone=False, skips_uncalled_globals=False)
    assert walk(_with_subprogram(1, is_global=True), verifier=old).hazards == {}
    assert walk(_with_subprogram(0, is_global=True), verifier=old).certain


def test_a_global_subprogram_that_is_not_called() -> None:
    pseudo = Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 3)
    linked = program(
        mov(1, 1),
        jump(JmpOp.JEQ, 1, 1, 1),
        pseudo,
        mov(0, 0),
        EXIT,
        HAZARD,
        mov(0, 0),
        EXIT,
        functions=[(5, True)],
        calls={2: 1},
    )
    assert walk(linked).hazards == {}
    assert walk(linked, verifier=Verifier(skips_uncalled_globals=False)).certain
    assert walk(linked, verifier=Verifier(checks_globals_alone=False, skips_uncalled_globals=False)).hazards == {}


def test_a_subprogram_returns_to_each_caller_with_what_it_has() -> None:
    """f1 returns its argument; the callers compare what they get, and r6, which is theirs."""
    linked = program(
        mov(6, 5),
        mov(1, 3),
        Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 7),
        jump(JmpOp.JNE, 0, 3, 5),
        mov(1, 4),
        Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 4),
        jump(JmpOp.JNE, 0, 4, 2),
        jump(JmpOp.JEQ, 6, 5, 1),
        HAZARD,
        EXIT,
        mov_reg(0, 1),
        mov(6, 9),
        EXIT,
        functions=[(10, False)],
        calls={2: 1, 5: 1},
    )
    assert walk(linked).hazards == {}


def test_a_subprogram_writes_into_its_callers_frame() -> None:
    linked = program(
        mov(1, 1),
        store(DW, -8, 1),
        mov_reg(1, 10),
        alu(AluOp.ADD, 1, -8),
        Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 4),
        load(DW, 2, -8),
        jump(JmpOp.JEQ, 2, 1, 1),
        HAZARD,
        EXIT,
        mov(2, 2),
        Insn(Class.STX | Mode.MEM | DW, 1, 2, 0, 0),
        mov(0, 0),
        EXIT,
        functions=[(9, False)],
        calls={4: 1},
    )
    assert walk(linked).certain


def test_a_subprogram_hands_its_caller_no_pointer_into_its_own_frame() -> None:
    """Not as what it returns, nor on its caller's stack: the verifier refuses both, and the frame is gone."""
    call_it = Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 5)
    for got in (mov_reg(6, 0), load(DW, 6, -8)):
        use_it = (Insn(Class.STX | Mode.MEM | DW, 6, 6, -8, 0), load(DW, 3, 0, 6), HAZARD, EXIT)
        leave_it = (Insn(Class.STX | Mode.MEM | DW, 1, 10, -8, 0), mov_reg(0, 10), EXIT)
        code = (mov_reg(1, 10), call_it, got, *use_it, *leave_it)
        assert walk(program(*code, functions=[(7, False)], calls={1: 1})).certain


@pytest.mark.parametrize("is_on_the_stack", [False, True])
def test_a_global_subprogram_writes_into_its_callers_frame(
    is_on_the_stack: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a pointer that it is given, or that may be one."""
    monkeypatch.setattr(walking, "MAX_STATES", 0)
    maybe = (call(RANDOM), jump(JmpOp.JEQ, 0, 5, 1), mov(6, 0))
    call_it = Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 0)
    guarded = (
        mov(7, 1),
        store(DW, -8, 7),
        mov_reg(6, 10),
        alu(AluOp.ADD, 6, -8),
        *(() if is_on_the_stack else maybe),
        mov_reg(1, 6),
        call_it,
        load(DW, 2, -8),
        jump(JmpOp.JEQ, 2, 1, 1),
        *SKIP_HAZARD,
        EXIT,
    )
    at = guarded.index(call_it)
    linked = program(*guarded, mov(0, 0), EXIT, functions=[(len(guarded), True)], calls={at: 1})
    assert walk(linked).certain


def test_recursion_ends() -> None:
    linked = program(
        Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 1), EXIT, Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, -1), HAZARD, EXIT,
        functions=[(2, False)], calls={0: 1, 2: 1},
    )  # fmt: skip
    assert walk(linked).certain


def test_a_callback_is_walked_if_its_helper_is_called() -> None:
    def linked(guard: int) -> LinkedProgram:
        return program(
            mov(6, guard),
            jump(JmpOp.JEQ, 6, 0, 3),
            *DATA,
            call(181),
            mov(0, 0),
            EXIT,
            HAZARD,
            EXIT,
            functions=[(7, False)],
            addresses={2: 1},
        )

    assert walk(linked(1)).certain
    assert walk(linked(0)).hazards == {}


def test_a_callback_writes_wherever_what_it_is_given_leads() -> None:
    """bpf_loop(count, callback, context, flags): the context may hold a pointer to another place on the stack."""
    spill = (mov(6, 1), store(DW, -8, 6), store(DW, -32, 6))
    loop = (*DATA, mov_reg(3, 10), alu(AluOp.ADD, 3, -16), mov(1, 2), mov(4, 0), call(181))
    callback = (mov(0, 0), EXIT)
    for slot in (-8, -32):
        guard = (load(DW, 3, slot), jump(JmpOp.JEQ, 3, 1, 1), *SKIP_HAZARD, EXIT)
        main = (*spill, *loop, *guard)
        linked = program(*main, *callback, functions=[(len(main), False)], addresses={len(spill): 1})
        assert walk(linked).certain
        # a subprogram loops, whose context holds the address of what its caller has spilled
        call_it = (mov_reg(1, 10), Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 0))
        outer = (*spill, *call_it, *guard)
        inner = (store(DW, -16, 1), *loop, mov(0, 0), EXIT)
        starts = [len(outer), len(outer) + len(inner)]
        linked = program(
            *outer,
            *inner,
            *callback,
            functions=[(start, False) for start in starts],
            calls={len(spill) + 1: 1},
            addresses={len(outer) + 1: 2},
        )
        assert walk(linked).certain


def test_a_callback_is_walked_whatever_is_set_before_the_load() -> None:
    """Also where a branch that is decided at load follows at once."""
    main = (
        *DATA,
        load(W, 6, 0, 2),
        *DATA,
        call(181),
        jump(JmpOp.JEQ, 6, 1, 1),
        *SKIP_HAZARD,
        EXIT,
    )
    callback = (HAZARD, mov(0, 0), EXIT)
    linked = program(*main, *callback, functions=[(len(main), False)], addresses={3: 1}, references=AT_2)
    reach = walk(linked, data=CFG)
    assert {slot: exposure.certain for slot, exposure in reach.hazards.items()} == {7: False, len(main): True}
    assert reach.certain
