"""Decoding instructions, against llvm-objdump."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.insns import Class, Insn, Mode, decode, wide_immediate
from hatch_bpf.objects.model import read_object
from tests.common import c_programs, needs, objects

SOURCE = """
long f(u64 *ctx) {
	u64 sum = 0x123456789abcdef0 ^ ctx[1];
	if (ctx[0] > 5)
		sum += ((long (*)(void))7)();
	*(volatile u16 *)(ctx + 1) = 5;
	return sum > 0x7000 ? sum : -1;
}
"""
"""Compiled alike for both byte orders."""


def _objdump(path: Path) -> list[tuple[int, str]]:
    """Byte offset of each instruction in its section, and its text; sections one after another, .text first."""
    done = subprocess.run(
        [needs.tool("llvm-objdump"), "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True
    )
    lines = []
    for line in done.stdout.splitlines():
        match = re.match(r"\s*([0-9]+):\s+(.*)", line)
        if match:
            lines.append((int(match[1]), match[2]))
    return lines


@pytest.mark.parametrize("name", ["runqslower", "tcpconnect", "javagc", "ksnoop", "klockstat"])
def test_as_llvm_objdump_has_it(name: str, tmp_path: Path) -> None:
    data = objects.carved()[name]
    path = tmp_path / "object.o"
    path.write_bytes(data)
    model = read_object(data, path=name)
    # a section's functions follow each other; llvm-objdump counts instructions from the section's start
    expected = _objdump(path)
    sections = dict.fromkeys(function.section for function in model.functions)
    found: list[tuple[int, Insn, Insn | None]] = []
    for section in sorted(sections, key=lambda name: name != ".text"):
        for function in (f for f in model.functions if f.section == section):
            slots = decode(function.insns)
            start = function.offset // 8
            tails = {slot + 1 for slot, insn in enumerate(slots) if insn.is_wide}
            found += [
                (start + slot, insn, slots[slot + 1] if insn.is_wide else None)
                for slot, insn in enumerate(slots)
                if slot not in tails
            ]
    assert len(found) == len(expected) > 30
    for (slot, insn, tail), (place, text) in zip(found, expected, strict=True):
        assert slot == place
        assert _agrees(insn, tail, text), f"{insn}: {text}"


def _agrees(insn: Insn, tail: Insn | None, text: str) -> bool:
    """Whether what matters here is in llvm-objdump's line."""
    if insn.is_exit:
        return text == "exit"
    if insn.is_call:
        return text == f"call {insn.imm}"
    if insn.is_goto:
        return text.startswith(f"goto {insn.jump:+d}")
    if insn.is_branch:
        return text.startswith(("if r", "if w")) and f"goto {insn.jump:+d}" in text
    if tail is not None:
        return text == f"r{insn.dst} = {wide_immediate(insn, tail)} ll"
    if insn.cls in (Class.LDX, Class.STX, Class.ST) and insn.mode == Mode.MEM:
        base = insn.src if insn.cls is Class.LDX else insn.dst
        sign = "-" if insn.off < 0 else "+"
        return f"*(u{8 * insn.size} *)(r{base} {sign} {abs(insn.off)})" in text
    if insn.cls in (Class.ALU, Class.ALU64):
        register = "w" if insn.cls is Class.ALU else "r"
        # a byte swap of 16 bits is an instruction on a register of 64, whatever its class
        return (
            re.match(rf"[rw]{insn.dst} " if "be" in text or "le" in text else rf"{register}{insn.dst} ", text)
            is not None
        )
    return "lock" in text or "atomic" in text


def test_both_byte_orders_decode_alike() -> None:
    little = c_programs.model(SOURCE)
    big = c_programs.model(SOURCE, endian="big")
    assert little.functions[0].insns != big.functions[0].insns
    assert decode(little.functions[0].insns, endian="little") == decode(big.functions[0].insns, endian="big")


@pytest.mark.parametrize("data", [b"\x95", b"\x18" + bytes(7), b"\x18" + bytes(7) + b"\x95" + bytes(7)])
def test_halves_are_refused(data: bytes) -> None:
    with pytest.raises(ObjectError):
        decode(data)
