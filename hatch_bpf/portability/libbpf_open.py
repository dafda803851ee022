"""Ask libbpf which objects it opens, without loading them: hatch-bpf's own libbpf, or else this machine's.

Input: the bytes of objects. Output: libbpf's version, and its last message for each object that it refuses.
`libbpf_rules.py` has the rules of the newest libbpf; this finds what they lack, and what an older one does not know.
libbpf runs in a process of its own, which executes this file, since a hostile object may crash it.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

LIBRARY = "libbpf.so.1"
_SECONDS = 5
_NAME = b"the object"
"""How libbpf is to call an object in messages; it would take its address."""
_NATIVE = b"\x01" if sys.byteorder == "little" else b"\x02"


def refusals_of_libbpf(objects: Iterable[bytes]) -> tuple[str, Mapping[bytes, str]] | None:
    """The version of that libbpf, and for each object that it refuses to open the reason; None if it does not answer.

    Objects of the other endianness are left out: libbpf before 1.6 opens none of them. If no others are left, the
    version is empty.
    """
    # what the process itself does not need, it should not take the time to import
    from hatch_bpf.support.own_libbpf import own_library

    asked = [data for data in dict.fromkeys(objects) if data[5:6] == _NATIVE]
    if not asked:
        return "", {}
    try:
        version, said = json.loads(_ask(own_library() or LIBRARY, asked) if sys.executable else b"")
    except ValueError:  # it crashed, or there is none
        return None
    return version, {data: reason for data, reason in zip(asked, said, strict=True) if reason}


def _ask(library: Path | str, objects: Sequence[bytes]) -> bytes:
    """What `answer()` says in a process of its own; nothing if that crashes."""
    import subprocess
    from tempfile import TemporaryFile

    with TemporaryFile() as file:
        file.write(json.dumps([len(data) for data in objects]).encode() + b"\n")
        file.writelines(objects)
        file.seek(0)
        try:
            # -S: importing the site's modules would take longer than opening the objects
            return subprocess.run(
                [sys.executable, "-I", "-S", __file__, library],
                stdin=file,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            return b""


class _OpenOptions(ctypes.Structure):
    """The first of `struct bpf_object_open_opts`; libbpf takes the rest for 0."""

    _fields_ = (("sz", ctypes.c_size_t), ("object_name", ctypes.c_char_p))


def answer(library: str) -> None:
    """Answer for the objects on standard input, by a libbpf's path or name."""
    data = sys.stdin.buffer.read()
    head, _, rest = data.partition(b"\n")
    libbpf = ctypes.CDLL(library)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    libbpf.bpf_object__open_mem.restype = pointer
    libbpf.bpf_object__open_mem.argtypes = [text, ctypes.c_size_t, pointer]
    libbpf.bpf_object__close.argtypes = [pointer]
    libc = ctypes.CDLL(None)
    libc.vsnprintf.argtypes = [text, ctypes.c_size_t, text, pointer]
    said: list[str] = []

    def take(level: int, fmt: bytes, args: int) -> int:
        if level == 0:
            buffer = ctypes.create_string_buffer(1000)
            libc.vsnprintf(buffer, len(buffer), fmt, args)
            said.append(buffer.value.decode(errors="replace"))
        return 0

    # referenced until the process ends, as libbpf calls it
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, text, pointer)(take)
    libbpf.libbpf_set_print(callback)
    options = _OpenOptions(ctypes.sizeof(_OpenOptions), _NAME)
    answers = []
    for size in json.loads(head):
        one, rest = rest[:size], rest[size:]
        said.clear()
        opened = libbpf.bpf_object__open_mem(one, len(one), ctypes.byref(options))
        if opened:
            libbpf.bpf_object__close(opened)
        answers.append("" if opened else (said[-1].strip() if said else "no reason given"))
    version = f"{libbpf.libbpf_major_version()}.{libbpf.libbpf_minor_version()}"
    sys.stdout.write(json.dumps([version, answers]))
    sys.stdout.flush()
    os._exit(0)  # no need to undo what libbpf did


if __name__ == "__main__":
    answer(sys.argv[1])
