"""How libbpf itself resolves an object's CO-RE relocations on a kernel, taken from its debug log.

libbpf relocates before it loads programs, so no kernel has to match. It wants to be root first (it probes the running
kernel), so `relocate()` needs `needs.root_bpf()`. No program is loaded: having no type, the first one stops libbpf.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from ctypes import POINTER, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.patch import POISON_IMM, patch_insn
from hatch_bpf.core_relo.resolve import Matcher, Resolution
from hatch_bpf.errors import RelocationError
from hatch_bpf.objects.model import INSN_SIZE, ObjectModel
from tests.common import needs

LIBBPF = "libbpf.so.1"


@dataclass
class Relocated:
    """What the log says about one relocation record."""

    program: str
    local: str
    """The local spec, as libbpf prints it."""
    matching: list[str] = field(default_factory=list)
    """The candidate that matched first, if any."""
    actions: list[str] = field(default_factory=list)
    """`3: imm 5 -> 8`, `3: off 4 -> 8`, `3: imm64 1 -> 2`, `3: mem_sz 8 -> 4`, `3: poison`, 3 being the instruction."""
    error: bool = False


@cache
def _library() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL(LIBBPF)
    except OSError:
        needs.missing(f"{LIBBPF} is not installed")
        raise
    lib.bpf_object__open_mem.restype = c_void_p
    lib.bpf_object__open_mem.argtypes = [c_void_p, c_size_t, c_void_p]
    for name in ("program", "map"):
        function = getattr(lib, f"bpf_object__next_{name}")
        function.restype, function.argtypes = c_void_p, [c_void_p, c_void_p]
    lib.bpf_program__set_type.argtypes = [c_void_p, c_int]
    lib.bpf_program__set_autoload.argtypes = [c_void_p, c_bool]
    lib.bpf_map__set_autocreate.argtypes = [c_void_p, c_bool]
    lib.bpf_object__load.argtypes = [c_void_p]
    lib.bpf_object__close.argtypes = [c_void_p]
    return lib


class _OpenOpts(ctypes.Structure):
    """`struct bpf_object_open_opts`, up to the fields used here."""

    _fields_ = (
        ("sz", c_size_t),
        ("object_name", c_char_p),
        ("relaxed_maps", c_bool),
        ("pin_root_path", c_char_p),
        ("attach_prog_fd", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
    )


def log_of_load(elf: bytes, btf: Path) -> list[str]:
    """The lines that libbpf logs when it loads an object with another kernel's BTF, up to its first program."""
    lib = _library()
    libc = ctypes.CDLL(None)
    lines: list[str] = []

    def on_print(_level: int, template: bytes, arguments: int) -> int:
        buffer = ctypes.create_string_buffer(4096)
        libc.vsnprintf(buffer, c_size_t(len(buffer)), c_char_p(template), c_void_p(arguments))
        lines.append(buffer.value.decode("utf-8", "replace").rstrip("\n"))
        return 0

    callback = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)(on_print)
    lib.libbpf_set_print(callback)
    opts = _OpenOpts(sz=ctypes.sizeof(_OpenOpts), object_name=b"test", btf_custom_path=str(btf).encode())
    try:
        opened = lib.bpf_object__open_mem(elf, len(elf), ctypes.byref(opts))
        assert opened, "\n".join(lines)
        for program in _each(lib.bpf_object__next_program, opened):
            lib.bpf_program__set_autoload(program, True)
            lib.bpf_program__set_type(program, 0)
        for map_ in _each(lib.bpf_object__next_map, opened):
            lib.bpf_map__set_autocreate(map_, False)
        lib.bpf_object__load(opened)
        lib.bpf_object__close(opened)
    finally:
        lib.libbpf_set_print(POINTER(c_int)())
    return lines


def _each(following: Callable[[int, int | None], int | None], opened: int) -> Iterator[int]:
    item = following(opened, None)
    while item:
        yield item
        item = following(opened, item)


def relocate(elf: bytes, btf: Path) -> list[Relocated]:
    """How libbpf resolves each relocation record, in order. Fails if libbpf gave up before them."""
    return parse(log_of_load(elf, btf))


def expect(model: ObjectModel, kernel: Btf) -> list[Relocated]:
    """The same from this project's own code, up to the first record that libbpf must refuse."""
    found = []
    matcher = Matcher(kernel)
    code = {function: function.insns for function in model.functions}
    records = [record for record in model.core_relos if model.function_at(record[0], record[1].insn_off)]
    resolutions = matcher.resolve_all(model.btf, [relo for _, relo in records])
    for (section, relo), resolution in zip(records, resolutions, strict=True):
        function = model.function_at(section, relo.insn_off)
        assert function is not None
        if isinstance(resolution, RelocationError):
            found.append(Relocated(function.name, "", error=True))
            break
        target = [str(resolution.target)] if resolution.target else []
        found.append(Relocated(function.name, str(resolution.local), target))
        offset = relo.insn_off - function.offset
        try:
            patched = patch_insn(code[function], offset, resolution)
        except RelocationError:
            found[-1].error = True
            break
        found[-1].actions = _actions(code[function], patched, offset, resolution)
        code[function] = patched
    return found


def _actions(before: bytes, after: bytes, offset: int, resolution: Resolution) -> list[str]:
    """The change to the instruction at `offset`, in the log's words."""
    order, number = ("<" if resolution.local.btf.endian == "little" else ">"), offset // INSN_SIZE
    code, _, off, imm = struct.unpack_from(order + "BBhi", before, offset)
    new_code, _, new_off, new_imm = struct.unpack_from(order + "BBhi", after, offset)
    is_wide = code == 0x18
    if new_imm == POISON_IMM and new_code == 0x85:
        return [f"{number + 1}: poison", f"{number}: poison"] if is_wide else [f"{number}: poison"]
    if is_wide:
        low, high = (offset + 4, offset + INSN_SIZE + 4)
        old, new = (_u32(order, data, low) | _u32(order, data, high) << 32 for data in (before, after))
        return [f"{number}: imm64 {old} -> {new}"]
    if code & 7 in (4, 7):
        # the log has the whole value, the instruction its lower half
        assert new_imm & 0xFFFFFFFF == resolution.target_value & 0xFFFFFFFF
        return [f"{number}: imm {imm & _U64} -> {resolution.target_value}"]
    actions = [f"{number}: off {off & _U64} -> {new_off & _U64}"]
    if code != new_code:
        actions.append(f"{number}: mem_sz {_LOAD_BYTES[code & 0x18]} -> {_LOAD_BYTES[new_code & 0x18]}")
    return actions


_U64 = 0xFFFFFFFFFFFFFFFF
_LOAD_BYTES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}


def _u32(order: str, data: bytes, offset: int) -> int:
    value: int = struct.unpack_from(order + "I", data, offset)[0]
    return value


_RELO = re.compile(r"prog '(?P<program>[^']*)': relo #(?P<number>\d+): (?P<what>.*)")
_PATCHED = re.compile(r"patched insn #(\d+) \([A-Z0-9/]+\) (\w+) (\d+) -> (\d+)")
_POISONED = re.compile(r"substituting insn #(\d+) w/ invalid insn")


def parse(lines: Iterable[str]) -> list[Relocated]:
    """Find the relocations in a log."""
    found: list[Relocated] = []
    told = ("", "")
    for line in lines:
        match = _RELO.search(line)
        if not match:
            continue
        what = match["what"]
        if what.startswith("<"):
            told = match["program"], match["number"]
            found.append(Relocated(match["program"], what))
        elif what.startswith("matching candidate"):
            if not found[-1].matching:  # the first is the one that counts
                found[-1].matching.append(what.split(" ", 3)[3])
        elif patched := _PATCHED.match(what):
            insn, where, old, new = patched.groups()
            found[-1].actions.append(f"{insn}: {where} {old} -> {new}")
        elif poisoned := _POISONED.match(what):
            found[-1].actions.append(f"{poisoned[1]}: poison")
        elif what.startswith("failed to relocate"):
            # some faults keep libbpf from logging the spec
            if told == (match["program"], match["number"]):
                found.pop()
            found.append(Relocated(match["program"], "", error=True))
        elif what.startswith("failed to patch"):
            found[-1].error, found[-1].actions = True, []
    return found
