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
    from collections.abc import Iterable, Mapping

LIBRARY = "libbpf.so.1"
_SECONDS = 5
_NATIVE = b"\x01" if sys.byteorder == "little" else b"\x02"


def refusals_of_libbpf(objects: Iterable[bytes]) -> tuple[str, Mapping[bytes, str]]:
    """The version of that libbpf, empty where there is none, and for each object that it refuses to open the reason.

    Objects of the other endianness are left out: libbpf before 1.6 opens none of them.
    """
    # what the process itself does not need, it should not take the time to import
    import subprocess
    from tempfile import TemporaryFile

    from hatch_bpf.support.own_libbpf import own_library

    asked = [data for data in dict.fromkeys(objects) if data[5:6] == _NATIVE]
    if not asked or not sys.executable:
        return "", {}
    with TemporaryFile() as file:
        file.write(json.dumps([len(data) for data in asked]).encode() + b"\n")
        file.writelines(asked)
        file.seek(0)
        try:
            # -S: importing the site's modules would take longer than opening the objects
            done = subprocess.run(
                [sys.executable, "-I", "-S", __file__, own_library() or LIBRARY],
                stdin=file,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
            version, said = json.loads(done.stdout)
        except (OSError, subprocess.TimeoutExpired, ValueError):
            return "", {}
    return version, {data: reason for data, reason in zip(asked, said, strict=True) if reason}


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
    answers = []
    for size in json.loads(head):
        one, rest = rest[:size], rest[size:]
        said.clear()
        opened = libbpf.bpf_object__open_mem(one, len(one), None)
        if opened:
            libbpf.bpf_object__close(opened)
        answers.append("" if opened else (said[-1].strip() if said else "no reason given"))
    version = f"{libbpf.libbpf_major_version()}.{libbpf.libbpf_minor_version()}"
    sys.stdout.write(json.dumps([version, answers]))
    sys.stdout.flush()
    os._exit(0)  # no need to undo what libbpf did


if __name__ == "__main__":
    answer(sys.argv[1])
