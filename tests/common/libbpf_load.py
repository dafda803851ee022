"""Loading one program of an object through libbpf: what the kernel really says, to compare verdicts with.

Standard library only: it also runs by itself inside the kernel lab, `libbpf_load.py [--btf FILE] OBJECT...`, and then
prints a line of JSON with libbpf's version, and one for each program.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "libbpf.so.1"


@dataclass(frozen=True)
class Loaded:
    """The result of loading one program."""

    program: str
    error: int
    """0, or errno as a positive number."""
    log: str
    """What libbpf said, the verifier's log included."""
    insns: int
    """Instructions of the program as libbpf linked it, subprograms included."""


class _OpenOptions(ctypes.Structure):
    """The start of libbpf's `struct bpf_object_open_opts`."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("object_name", ctypes.c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", ctypes.c_char_p),
        ("unused", ctypes.c_uint32),
        ("kconfig", ctypes.c_char_p),
        ("btf_custom_path", ctypes.c_char_p),
    ]


class Libbpf:
    """The part of libbpf that loads programs. Raises OSError where it is not installed."""

    def __init__(self, library: str = LIBRARY) -> None:
        self._lib = ctypes.CDLL(library)
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        for name, result, arguments in (
            ("bpf_object__open_mem", pointer, [text, ctypes.c_size_t, ctypes.POINTER(_OpenOptions)]),
            ("bpf_object__next_program", pointer, [pointer, pointer]),
            ("bpf_program__name", text, [pointer]),
            ("bpf_program__insn_cnt", ctypes.c_size_t, [pointer]),
            ("bpf_program__set_autoload", ctypes.c_int, [pointer, ctypes.c_bool]),
            ("bpf_object__load", ctypes.c_int, [pointer]),
            ("bpf_object__close", None, [pointer]),
            ("bpf_prog_load", ctypes.c_int, [ctypes.c_int, text, text, text, ctypes.c_size_t, pointer]),
        ):
            function = getattr(self._lib, name)
            function.restype, function.argtypes = result, arguments
        self._libc = ctypes.CDLL(None)
        self._libc.vsnprintf.argtypes = [text, ctypes.c_size_t, text, pointer]

    @property
    def version(self) -> tuple[int, int]:
        return self._lib.libbpf_major_version(), self._lib.libbpf_minor_version()

    def load_each(self, data: bytes, *, btf: str | None = None) -> Iterator[Loaded]:
        """Load every program of an object by itself, relocated against `btf` if given, and unload it again."""
        index = 0
        while (loaded := self._load(data, index, btf)) is not None:
            yield loaded
            index += 1

    def takes_socket_filter(self, insns: bytes) -> bool:
        """Whether the kernel takes these instructions as a program of the simplest type."""
        fd: int = self._lib.bpf_prog_load(1, b"test", b"GPL", insns, len(insns) // 8, None)
        if fd < 0:
            return False
        os.close(fd)
        return True

    def _load(self, data: bytes, index: int, btf: str | None) -> Loaded | None:
        options = _OpenOptions(size=ctypes.sizeof(_OpenOptions), btf_custom_path=btf.encode() if btf else None)
        with self._said() as lines:
            handle = self._lib.bpf_object__open_mem(data, len(data), ctypes.byref(options))
            if not handle:
                raise AssertionError(f"libbpf cannot open the object: {''.join(lines)}")
            try:
                chosen, position, program = 0, 0, None
                while program := self._lib.bpf_object__next_program(handle, program):
                    self._lib.bpf_program__set_autoload(program, position == index)
                    if position == index:
                        chosen = program
                    position += 1
                if not chosen:
                    return None
                error = -self._lib.bpf_object__load(handle)
                name = self._lib.bpf_program__name(chosen).decode()
                insns = self._lib.bpf_program__insn_cnt(chosen)
            finally:
                self._lib.bpf_object__close(handle)
        return Loaded(name, error, "".join(lines), insns)

    @contextmanager
    def _said(self) -> Iterator[list[str]]:
        """Collect what libbpf logs, without its debug messages."""
        lines: list[str] = []

        def take(level: int, fmt: bytes, args: int) -> int:
            if level < 2:
                buffer = ctypes.create_string_buffer(1 << 20)
                self._libc.vsnprintf(buffer, len(buffer), fmt, args)
                lines.append(buffer.value.decode(errors="replace"))
            return 0

        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(take)
        self._lib.libbpf_set_print(callback)
        try:
            yield lines
        finally:
            self._lib.libbpf_set_print(None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--btf")
    parser.add_argument("objects", nargs="+")
    options = parser.parse_args()
    libbpf = Libbpf()
    print(json.dumps({"libbpf": libbpf.version}), flush=True)
    for path in options.objects:
        for loaded in libbpf.load_each(Path(path).read_bytes(), btf=options.btf):
            record = {"object": path, "program": loaded.program, "error": loaded.error, "log": loaded.log[-400:]}
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
