"""Loading one program of an object through libbpf: what the kernel really says, to compare verdicts with."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests import needs


@dataclass(frozen=True)
class Loaded:
    """What came of loading one program."""

    program: str
    error: int
    """0, or errno as a positive number."""
    log: str
    """What libbpf said, the verifier's log included."""


class Libbpf:
    """As much of libbpf as loading a program takes."""

    def __init__(self) -> None:
        path = ctypes.util.find_library("bpf")
        if path is None:
            needs.missing("libbpf.so is not installed")
        self._lib = ctypes.CDLL(path, use_errno=True)
        for name in ("bpf_object__open_mem", "bpf_object__next_program", "bpf_program__name"):
            getattr(self._lib, name).restype = ctypes.c_void_p
        self._lib.bpf_object__open_mem.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p]
        self._lib.bpf_object__next_program.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._lib.bpf_program__name.argtypes = [ctypes.c_void_p]
        self._lib.bpf_program__set_autoload.argtypes = [ctypes.c_void_p, ctypes.c_bool]
        self._lib.bpf_object__load.argtypes = [ctypes.c_void_p]
        self._lib.bpf_object__close.argtypes = [ctypes.c_void_p]
        self._libc = ctypes.CDLL(None)
        self._libc.vsnprintf.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]

    def load_each(self, data: bytes) -> Iterator[Loaded]:
        """Load every program of an object by itself, and let go of it again."""
        index = 0
        while (loaded := self._load(data, index)) is not None:
            yield loaded
            index += 1

    def _load(self, data: bytes, index: int) -> Loaded | None:
        with self._said() as lines:
            handle = self._lib.bpf_object__open_mem(data, len(data), None)
            if not handle:
                raise AssertionError(f"libbpf cannot open the object: {''.join(lines)}")
            try:
                chosen, position, program = None, 0, None
                while program := self._lib.bpf_object__next_program(handle, program):
                    self._lib.bpf_program__set_autoload(program, position == index)
                    if position == index:
                        chosen = ctypes.string_at(self._lib.bpf_program__name(program)).decode()
                    position += 1
                if chosen is None:
                    return None
                error = -self._lib.bpf_object__load(handle)
            finally:
                self._lib.bpf_object__close(handle)
        return Loaded(chosen, error, "".join(lines))

    @contextmanager
    def _said(self) -> Iterator[list[str]]:
        """Take down what libbpf says, debugging apart."""
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
