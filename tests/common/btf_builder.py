"""BTF, .BTF.ext and BPF objects built by code, byte by byte, without the package's own writer.

So the reader is tested against something else than itself, and a test can break whatever rule it wants to.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.btf.types import Kind

EXIT = struct.pack("<BBhi", 0x95, 0, 0, 0)
"""The instruction `exit`."""


class RawBtf:
    """Types appended one by one, each method returning the new type's id."""

    def __init__(self, order: str = "<") -> None:
        self.order = order
        self.strings = bytearray(1)
        self.types = bytearray()
        self._next_id = 1
        self._offsets: dict[str, int] = {"": 0}

    def string(self, text: str) -> int:
        if text not in self._offsets:
            self._offsets[text] = len(self.strings)
            self.strings += text.encode() + b"\0"
        return self._offsets[text]

    def add(
        self, kind: int, name: str = "", *, vlen: int = 0, flag: bool = False, size: int = 0, words: Sequence[int] = ()
    ) -> int:
        """A type of any kind: `size` is its third word, `words` follow."""
        head = (self.string(name), flag << 31 | kind << 24 | vlen, size)
        self.types += struct.pack(f"{self.order}{3 + len(words)}I", *head, *(word & 0xFFFFFFFF for word in words))
        self._next_id += 1
        return self._next_id - 1

    def integer(self, name: str = "int", size: int = 4, *, signed: bool = True, bits: int = 0, offset: int = 0) -> int:
        return self.add(Kind.INT, name, size=size, words=[signed << 24 | offset << 16 | (bits or 8 * size)])

    def floating(self, name: str, size: int) -> int:
        return self.add(Kind.FLOAT, name, size=size)

    def ptr(self, target: int) -> int:
        return self.add(Kind.PTR, size=target)

    def array(self, element: int, length: int, index: int = 1) -> int:
        return self.add(Kind.ARRAY, words=[element, index, length])

    def struct(
        self, name: str, size: int, *members: tuple[str, int, int] | tuple[str, int, int, int], kind: Kind = Kind.STRUCT
    ) -> int:
        """Members are (name, type, offset in bits), or with a fourth number, bitfields of that many bits."""
        flag = any(len(member) == 4 for member in members)
        words: list[int] = []
        for member in members:
            bits = member[3] if len(member) == 4 else 0
            words += (self.string(member[0]), member[1], member[2] | bits << 24)
        return self.add(kind, name, vlen=len(members), flag=flag, size=size, words=words)

    def union(self, name: str, size: int, *members: tuple[str, int, int]) -> int:
        return self.struct(name, size, *members, kind=Kind.UNION)

    def enum(self, name: str, size: int = 4, *, signed: bool = False, **values: int) -> int:
        words = [word for item, value in values.items() for word in (self.string(item), value)]
        return self.add(Kind.ENUM, name, vlen=len(values), flag=signed, size=size, words=words)

    def enum64(self, name: str, *, signed: bool = False, **values: int) -> int:
        words = [w for item, value in values.items() for w in (self.string(item), value, value >> 32)]
        return self.add(Kind.ENUM64, name, vlen=len(values), flag=signed, size=8, words=words)

    def fwd(self, name: str, *, union: bool = False) -> int:
        return self.add(Kind.FWD, name, flag=union)

    def typedef(self, name: str, target: int) -> int:
        return self.add(Kind.TYPEDEF, name, size=target)

    def mod(self, kind: Kind, target: int, name: str = "") -> int:
        """CONST, VOLATILE, RESTRICT, or TYPE_TAG with its value as name."""
        return self.add(kind, name, size=target)

    def func_proto(self, returned: int, *params: tuple[str, int]) -> int:
        words = [word for name, type_id in params for word in (self.string(name), type_id)]
        return self.add(Kind.FUNC_PROTO, vlen=len(params), size=returned, words=words)

    def func(self, name: str, proto: int, linkage: int = 1) -> int:
        return self.add(Kind.FUNC, name, vlen=linkage, size=proto)

    def var(self, name: str, target: int, linkage: int = 1) -> int:
        return self.add(Kind.VAR, name, size=target, words=[linkage])

    def datasec(self, name: str, size: int, *variables: tuple[int, int, int]) -> int:
        words = [word for variable in variables for word in variable]
        return self.add(Kind.DATASEC, name, vlen=len(variables), size=size, words=words)

    def decl_tag(self, value: str, target: int, component: int = -1) -> int:
        return self.add(Kind.DECL_TAG, value, size=target, words=[component])

    def build(self, *, layout: bytes = b"", flags: int = 0, tail: bytes = b"") -> bytes:
        """The encoded BTF. With a layout section its header has 32 bytes; `tail` adds unknown fields to it."""
        words = [0, len(self.types), len(self.types), len(self.strings)]
        if layout:
            words += [len(self.types) + len(self.strings), len(layout)]
        size = 8 + 4 * len(words) + len(tail)
        head = struct.pack(f"{self.order}HBBI{len(words)}I", 0xEB9F, 1, flags, size, *words)
        return head + tail + bytes(self.types) + bytes(self.strings) + layout


Relo = tuple[int, int, str, CoreReloKind]
"""Byte offset of the instruction in its section, type id, access string, kind."""


def btf_ext(btf: RawBtf, relos: Mapping[str, Sequence[Relo]]) -> bytes:
    """.BTF.ext with CO-RE relocations only; their strings go into `btf`, so call this before `btf.build()`."""
    order = btf.order
    body = struct.pack(order + "I", 16)
    for section, records in relos.items():
        body += struct.pack(order + "II", btf.string(section), len(records))
        for insn_off, type_id, access, kind in records:
            body += struct.pack(order + "4I", insn_off, type_id, btf.string(access), kind)
    return struct.pack(order + "HBBI6I", 0xEB9F, 1, 0, 32, 0, 0, 0, 0, 0, len(body)) + body


def elf_object(
    btf: bytes,
    ext: bytes | None,
    code: Mapping[str, bytes],
    *,
    order: str = "<",
    functions: Sequence[tuple[int, int, int, int]] = (),
    names_of_functions: bytes = b"\0",
) -> bytes:
    """A BPF object with one program, `prog_N`, in each section of `code`.

    `functions` are more: where in `names_of_functions` its name is, index of the section, offset and size.
    """
    strings, names = bytearray(names_of_functions), bytearray(1)

    def put(table: bytearray, text: str) -> int:
        table += text.encode() + b"\0"
        return len(table) - len(text.encode()) - 1

    progbits, symtab, strtab = 1, 2, 3
    sections: list[tuple[str, int, int, bytes, int, int, int]] = []  # name, type, flags, data, link, info, entry size
    symbols = [bytes(24)]
    for index, (section, insns) in enumerate(code.items(), 1):
        sections.append((section, progbits, 6, insns, 0, 0, 0))
        name = put(strings, f"prog_{index - 1}")
        symbols.append(struct.pack(order + "IBBHQQ", name, 0x12, 0, index, 0, len(insns)))
    symbols += [struct.pack(order + "IBBHQQ", at, 0x12, 0, *place) for at, *place in functions]
    sections.append(("license", progbits, 3, b"GPL\0", 0, 0, 0))
    sections.append((".BTF", progbits, 0, btf, 0, 0, 0))
    if ext is not None:
        sections.append((".BTF.ext", progbits, 0, ext, 0, 0, 0))
    sections.append((".symtab", symtab, 0, b"".join(symbols), len(sections) + 2, 1, 24))
    sections.append((".strtab", strtab, 0, bytes(strings), 0, 0, 0))
    offsets = [put(names, section[0]) for section in sections] + [put(names, ".shstrtab")]
    sections.append((".shstrtab", strtab, 0, bytes(names), 0, 0, 0))
    body, headers = bytearray(), [bytes(64)]
    for name_off, (_, type_, flags, data, link, info, entry_size) in zip(offsets, sections, strict=True):
        body += bytes(-len(body) % 8)
        place = (64 + len(body), len(data))
        headers.append(struct.pack(order + "IIQQQQIIQQ", name_off, type_, flags, 0, *place, link, info, 8, entry_size))
        body += data
    body += bytes(-len(body) % 8)
    ident = b"\x7fELF" + bytes([2, 1 if order == "<" else 2, 1]) + bytes(9)
    counts = (64, 0, 0, 64, len(headers), len(headers) - 1)
    head = struct.pack(order + "HHIQQQIHHHHHH", 1, 247, 1, 0, 0, 64 + len(body), 0, *counts)
    return ident + head + bytes(body) + b"".join(headers)
