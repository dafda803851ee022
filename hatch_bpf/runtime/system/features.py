"""What this kernel can do. Input: a type, a helper, an attach type or a kfunc, by name. Output: whether it has it.

Types and helpers are tried out by libbpf, since no version number tells what a distribution has backported. Attach
types and kfuncs are looked up in the kernel's BTF. Answers are kept for the life of the process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from ctypes import c_uint32
from functools import lru_cache

from ..arguments import c_string
from ..errors import BpfError, InvalidValueError, failed, permission_denied, unprivileged
from ..host import kernel as _kernel
from ..libbpf import library as _library
from ..maps.shapes import MAP_TYPES
from .objects import PROGRAM_TYPES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KIND_ENUM, _KIND_FUNC, _KIND_DECL_TAG = 6, 12, 17


def has_program_type(name: str) -> bool:
    """Whether programs of a type load: `has_program_type("XDP")`. libbpf 0.7 or later."""
    number = _number(PROGRAM_TYPES, name, "program type")
    return _probe("libbpf_probe_bpf_prog_type", f"program type {name}", number)


def has_map_type(name: str) -> bool:
    """Whether maps of a type can be made: `has_map_type("RINGBUF")`. libbpf 0.7 or later."""
    number = _number(MAP_TYPES, name, "map type")
    return _probe("libbpf_probe_bpf_map_type", f"map type {name}", number)


def has_helper(name: str, program_type: str) -> bool:
    """Whether programs of a type may call a helper: `has_helper("ringbuf_output", "XDP")`. libbpf 0.7 or later."""
    program = _number(PROGRAM_TYPES, program_type, "program type")
    text = _text(name)
    helper = _enumerators("bpf_func_id").get(f"BPF_FUNC_{text[4:] if text.startswith('bpf_') else text}")
    if helper is None:
        return False
    return _probe("libbpf_probe_bpf_helper", f"helper {name}", program, helper)


def has_attach_type(name: str) -> bool:
    """Whether the kernel knows an attach type: `has_attach_type("BPF_TCX_INGRESS")`."""
    return _text(name) in _enumerators("bpf_attach_type")


def has_kfunc(name: str) -> bool:
    """Whether the kernel has a kfunc: `has_kfunc("bpf_task_from_pid")`.

    Older BTF (before Linux 6.10) does not tell kfuncs from other functions: there any function counts. Those of modules
    are not looked for.
    """
    return _has_kfunc(_text(name))


@lru_cache(4096)
def _has_kfunc(name: str) -> bool:
    with _KernelBtf() as btf:
        number = btf.find(name, _KIND_FUNC)
    data = _raw_btf()
    header, _, _, strings, length = struct.unpack_from("=IIIII", data, 4)
    start = header + strings
    tag = data.find(b"\0bpf_kfunc\0", start, start + length) + 1 - start
    if number < 0 or tag < 0:
        return number >= 0
    record = struct.pack("=IIIi", tag, _KIND_DECL_TAG << 24, number, -1)
    return data.find(record, header, start) >= 0


def _text(name: Any) -> str:
    return os.fsdecode(c_string("name", name))


def _number(names: tuple[str, ...], given: str, noun: str) -> int:
    name = _text(given)
    if name not in names[1:]:
        raise InvalidValueError(f"there is no {noun} {name!r}; there are {', '.join(names[1:])}")
    return names.index(name)


@lru_cache(4096)
def _probe(function: str, what: str, *numbers: int) -> bool:
    """Ask libbpf, which answers no to a process without rights."""
    result = int(getattr(_library.current(), function)(*numbers, None))
    if result == 0 and unprivileged():
        raise permission_denied(f"{what} can't be tried", errno=errno.EPERM)
    if result < 0:
        raise failed(BpfError, f"{what} can't be tried", -result)
    return result == 1


@lru_cache(4096)
def _enumerators(enum: str) -> dict[str, int]:
    """Names and numbers of an enum of the kernel."""
    with _KernelBtf() as btf:
        return btf.enumerators(enum)


@lru_cache(4096)
def _raw_btf() -> bytes:
    with open(_kernel.KERNEL_BTF, "rb") as file:
        return file.read()


class _KernelBtf:
    """The kernel's BTF, held by libbpf in a `with` block."""

    def __enter__(self) -> _KernelBtf:
        self._libbpf = _library.current()
        self._pointer = self._libbpf.btf__load_vmlinux_btf()
        if not self._pointer:
            raise failed(BpfError, "this kernel has no BTF, in which this is looked up", ctypes.get_errno())
        return self

    def __exit__(self, *_: object) -> None:
        self._libbpf.btf__free(self._pointer)

    def find(self, name: str, kind: int) -> int:
        """The id of a type; negative if there is none."""
        return int(self._libbpf.btf__find_by_name_kind(self._pointer, os.fsencode(name), kind))

    def enumerators(self, name: str) -> dict[str, int]:
        number = self.find(name, _KIND_ENUM)
        if number < 0:
            return {}
        address = self._libbpf.btf__type_by_id(self._pointer, number)
        count = (c_uint32 * 3).from_address(address)[1] & 0xFFFF
        words = (c_uint32 * (2 * count)).from_address(address + 12)[:]
        names = (self._libbpf.btf__name_by_offset(self._pointer, offset) for offset in words[::2])
        return dict(zip((text.decode() for text in names), words[1::2]))
