"""BPF objects made to cost time or memory in `check` and `inspect`: many of what a real object has a few of.

Output: ELF files of up to 10 MB, by what they are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.btf.types import Kind
from tests.common.btf_builder import EXIT, RawBtf, Relo, btf_ext, elf_object

_MOV = struct.pack("<BBhi", 0xB7, 1, 0, 0)
"""r1 = 0"""
_ZERO = struct.pack("<BBhi", 0xB7, 0, 0, 0)
"""r0 = 0"""


def _insn(code: int, registers: int, offset: int, imm: int) -> bytes:
    return struct.pack("<BBhi", code, registers, offset, imm)


def missing_fields(
    count: int, *, kind: CoreReloKind = CoreReloKind.FIELD_BYTE_OFFSET, of: str = "task_struct"
) -> bytes:
    """One program that reads fields, each of which no kernel has."""
    local = RawBtf()
    number = local.integer()
    thing = local.struct(of, 4 * count, *((f"pid_{n:x}", number, 32 * n) for n in range(count)))
    records: Sequence[Relo] = [(8 * n, thing, f"0:{n}", kind) for n in range(count)]
    ext = btf_ext(local, {"raw_tp/sys_enter": records})
    return elf_object(local.build(), ext, {"raw_tp/sys_enter": _MOV * count + _ZERO + EXIT})


def missing_types(count: int) -> bytes:
    """One program that asks for types that no kernel has."""
    local = RawBtf()
    local.integer()
    types = [local.struct(f"task_struct{n:x}", 4) for n in range(count)]
    records = [(8 * n, type_id, "0", CoreReloKind.TYPE_EXISTS) for n, type_id in enumerate(types)]
    ext = btf_ext(local, {"raw_tp/sys_enter": records})
    return elf_object(local.build(), ext, {"raw_tp/sys_enter": _MOV * count + _ZERO + EXIT})


def missing_enumerators(count: int) -> bytes:
    """One program that asks for enumerators that no kernel has."""
    local = RawBtf()
    words = [word for n in range(count) for word in (local.string(f"BPF_MAP_TYPE_{n:x}"), n)]
    values = local.add(Kind.ENUM, "bpf_map_type", vlen=count, size=4, words=words)
    records = [(8 * n, values, str(n), CoreReloKind.ENUMVAL_VALUE) for n in range(count)]
    ext = btf_ext(local, {"raw_tp/sys_enter": records})
    return elf_object(local.build(), ext, {"raw_tp/sys_enter": _MOV * count + _ZERO + EXIT})


def _programs(section: Callable[[int], str], code: bytes, count: int, relos: int = 0) -> bytes:
    local = RawBtf()
    number = local.integer()
    thing = local.struct("task_struct", 4, ("nosuch", number, 0))
    ext = None
    if relos:
        records = [(8 * n, thing, "0:0", CoreReloKind.FIELD_BYTE_OFFSET) for n in range(relos)]
        ext = btf_ext(local, {section(n): records for n in range(count)})
    return elf_object(local.build(), ext, {section(n): code for n in range(count)})


def missing_targets(prefix: str, count: int) -> bytes:
    """Programs for functions or tracepoints that no kernel has."""
    return _programs(lambda n: f"{prefix}sched_sw{n:x}tch", _ZERO + EXIT, count)


def branches(count: int, length: int) -> bytes:
    """Programs whose branches on unknown values each double the ways, after a poisoned instruction."""
    branch = _insn(0x61, 0x12, 0, 0) + _insn(0x15, 2, 1, 7) + _insn(0x07, 3, 0, 1)
    return _programs(lambda n: f"raw_tp/{n}", _MOV * 2 + branch * length + _ZERO + EXIT, count, 1)


def loops(count: int, length: int) -> bytes:
    """Programs that count up in a loop, whose every turn is another state."""
    body = _insn(0x07, 3, 0, 1) + _insn(0x7B, 0x3A, -8, 0)
    back = _insn(0xA5, 3, -(2 * length) - 1, 1 << 20)
    return _programs(
        lambda n: f"raw_tp/{n}", _MOV + _insn(0xB7, 3, 0, 0) + body * length + back + _ZERO + EXIT, count, 1
    )


def one_missing_field(count: int) -> bytes:
    """One program that reads the same field over and over, which no kernel has."""
    local = RawBtf()
    thing = local.struct("task_struct", 4, ("pid_x", local.integer(), 0))
    records = [(8 * n, thing, "0:0", CoreReloKind.FIELD_BYTE_OFFSET) for n in range(count)]
    ext = btf_ext(local, {"raw_tp/sys_enter": records})
    return elf_object(local.build(), ext, {"raw_tp/sys_enter": _MOV * count + _ZERO + EXIT})


def hazards_between_branches(count: int) -> bytes:
    """One program that reads a missing field in each of many branches."""
    local = RawBtf()
    thing = local.struct("task_struct", 4, ("pid_x", local.integer(), 0))
    branch = _insn(0x61, 0x12, 0, 0) + _insn(0x15, 2, 1, 7) + _insn(0xB7, 3, 0, 1)
    records = [(24 * n + 16, thing, "0:0", CoreReloKind.FIELD_BYTE_OFFSET) for n in range(count)]
    ext = btf_ext(local, {"raw_tp/sys_enter": records})
    return elf_object(local.build(), ext, {"raw_tp/sys_enter": branch * count + _ZERO + EXIT})


def jumps_back(count: int, length: int) -> bytes:
    """Programs of jumps that each go to the one before."""
    return _programs(lambda n: f"raw_tp/{n}", _MOV + _insn(0x15, 1, -2, 7) * length + EXIT, count, 1)


def shared_code(count: int, length: int) -> bytes:
    """Programs that all call one long function."""
    local = RawBtf()
    number = local.integer()
    thing = local.struct("task_struct", 4, ("nosuch", number, 0))
    call = _insn(0x85, 0x10, 0, 1) + EXIT
    code = call * count + _MOV * length + _ZERO + EXIT
    functions = [(1, 1, 16 * n, 16) for n in range(count)] + [(1, 1, 16 * count, 8 * length + 16)]
    ext = btf_ext(local, {"raw_tp/x": [(16 * count, thing, "0:0", CoreReloKind.FIELD_BYTE_OFFSET)]})
    return elf_object(local.build(), ext, {"raw_tp/x": code}, functions=functions, names_of_functions=b"\0f\0")


OBJECTS: dict[str, Callable[[], bytes]] = {
    "missing fields": lambda: missing_fields(60_000),
    "as many missing fields as are taken": lambda: missing_fields(8_000),
    "one missing field": lambda: one_missing_field(60_000),
    "missing fields in branches": lambda: hazards_between_branches(20_000),
    "a few missing fields in branches": lambda: hazards_between_branches(1_000),
    "missing guarded fields": lambda: missing_fields(8_000, kind=CoreReloKind.FIELD_EXISTS),
    "missing fields of a missing type": lambda: missing_fields(8_000, of="task_strukt"),
    "missing types": lambda: missing_types(8_000),
    "missing enumerators": lambda: missing_enumerators(8_000),
    "missing functions": lambda: missing_targets("fentry/", 4_000),
    "missing kprobes": lambda: missing_targets("kprobe/", 4_000),
    "missing tracepoints": lambda: missing_targets("tp_btf/", 4_000),
    "missing syscalls": lambda: missing_targets("ksyscall/", 4_000),
    "missing sections": lambda: missing_targets("ksysca", 4_000),
    "programs of branches": lambda: branches(500, 200),
    "a program of branches": lambda: branches(1, 100_000),
    "programs that loop": lambda: loops(500, 100),
    "programs that loop far": lambda: loops(16, 10_000),
    "programs that jump back": lambda: jumps_back(500, 1000),
    "programs that share a function": lambda: shared_code(2_000, 100_000),
}
"""What to make, by what it is."""
WORST = (
    "as many missing fields as are taken",
    "missing fields in branches",
    "missing functions",
    "missing sections",
    "programs that loop",
    "programs that jump back",
)
"""Each took too long before there was a limit against it."""
