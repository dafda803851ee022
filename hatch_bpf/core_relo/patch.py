"""`Resolution` x instructions -> relocated instructions, as libbpf writes them (bpf_core_patch_insn()).

Input: a function's instructions, and what one relocation of them resolves to. Output: the instructions with that one
changed, or poisoned where the value would mean nothing; `RelocationError` where libbpf refuses to load the object.
"""

from __future__ import annotations

import struct

from hatch_bpf.core_relo.resolve import Resolution
from hatch_bpf.errors import RelocationError
from hatch_bpf.objects.insns import LD_IMM64, SIZES, Class, JmpOp
from hatch_bpf.objects.model import INSN_SIZE

POISON_IMM = 0xBAD2310
"""Number of the helper that a poisoned instruction calls; no kernel has it."""


def patch_insn(insns: bytes, insn_off: int, resolution: Resolution) -> bytes:
    """The instructions with the one at byte `insn_off` relocated (bpf_core_patch_insn()).

    `insn_off` counts from the start of `insns`, while `CoreRelo.insn_off` counts from the start of the ELF section.
    Raises `RelocationError` where libbpf refuses to load the object.
    """
    if insn_off % INSN_SIZE or not 0 <= insn_off <= len(insns) - INSN_SIZE:
        raise RelocationError(f"{resolution.local}: there is no instruction at byte {insn_off}")
    order = "<" if resolution.local.btf.endian == "little" else ">"
    code, _, off, imm = struct.unpack_from(order + "BBhi", insns, insn_off)
    local, target = resolution.local_value, resolution.target_value
    is_wide = code == LD_IMM64

    def error(what: str) -> RelocationError:
        return RelocationError(f"{resolution.local}: instruction {insn_off // INSN_SIZE} {what}")

    if is_wide and insn_off + 2 * INSN_SIZE > len(insns):
        raise error("is half a 64-bit load")
    patched = bytearray(insns)

    def poison() -> bytes:
        for at in (insn_off, insn_off + INSN_SIZE)[: 2 if is_wide else 1]:
            struct.pack_into(order + "BBhi", patched, at, _CALL, 0, 0, POISON_IMM)
        return bytes(patched)

    if resolution.poisoned:
        return poison()
    match code & 7:
        case Class.ALU | Class.ALU64:
            if code & 8:
                raise error("takes its operand from a register, not from an immediate")
            if resolution.validate and imm & 0xFFFFFFFFFFFFFFFF != local:
                raise error(f"holds {imm} where {local} was expected")
            struct.pack_into(order + "I", patched, insn_off + 4, target & 0xFFFFFFFF)
        case Class.LDX | Class.ST | Class.STX:
            if resolution.validate and off & 0xFFFFFFFFFFFFFFFF != local:
                raise error(f"has offset {off} where {local} was expected")
            if target > 0x7FFF:
                raise error(f"cannot have offset {target}: it does not fit 16 bits")
            if resolution.fail_memsz_adjust:
                return poison()
            if resolution.local_size != resolution.target_size:
                if SIZES[code & 0x18] != resolution.local_size:
                    raise error(
                        f"accesses {SIZES[code & 0x18]} bytes of a field of {resolution.local_size}, "
                        f"so it cannot be changed to one of {resolution.target_size}"
                    )
                if resolution.target_size not in _SIZE_BITS:
                    raise error(f"cannot access {resolution.target_size} bytes at once")
                patched[insn_off] = code & 0xE7 | _SIZE_BITS[resolution.target_size]
            struct.pack_into(order + "H", patched, insn_off + 2, target)
        case Class.LD if is_wide:
            code2, regs2, off2, imm2 = struct.unpack_from(order + "BBhI", insns, insn_off + INSN_SIZE)
            src = insns[insn_off + 1] >> 4 if order == "<" else insns[insn_off + 1] & 0xF
            if src or off or code2 or regs2 or off2:
                raise error("is not a plain 64-bit load")
            held = imm & 0xFFFFFFFF | imm2 << 32
            if resolution.validate and held != local:
                raise error(f"holds {held} where {local} was expected")
            struct.pack_into(order + "I", patched, insn_off + 4, target & 0xFFFFFFFF)
            struct.pack_into(order + "I", patched, insn_off + INSN_SIZE + 4, target >> 32)
        case _:
            raise error(f"(code {code:#x}) is of a class that cannot be relocated")
    return bytes(patched)


_CALL = Class.JMP | JmpOp.CALL
_SIZE_BITS = {count: bits for bits, count in SIZES.items()}
