"""Runs inside a virtual machine of the lab: load and attach one object through libbpf, and see whether it works.

Input: an object, and perhaps a file with the BTF to relocate against. Output: a line of JSON. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p


class OpenOptions(ctypes.Structure):
    """The start of libbpf's `struct bpf_object_open_opts`, up to the field that is needed."""

    _fields_ = [
        ("size", c_size_t),
        ("object_name", c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", c_char_p),
        ("unused", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
    ]


def main(path: str, btf: str | None) -> dict[str, object]:
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    for name, result, arguments in (
        ("bpf_object__open_file", c_void_p, [c_char_p, POINTER(OpenOptions)]),
        ("bpf_object__load", c_int, [c_void_p]),
        ("bpf_object__find_program_by_name", c_void_p, [c_void_p, c_char_p]),
        ("bpf_object__find_map_fd_by_name", c_int, [c_void_p, c_char_p]),
        ("bpf_program__attach", c_void_p, [c_void_p]),
        ("bpf_map_lookup_elem", c_int, [c_int, POINTER(c_uint32), POINTER(c_uint64)]),
    ):
        function = getattr(libbpf, name)
        function.restype, function.argtypes = result, arguments
    options = OpenOptions(size=ctypes.sizeof(OpenOptions), btf_custom_path=btf.encode() if btf else None)
    opened = libbpf.bpf_object__open_file(path.encode(), ctypes.byref(options))
    if not opened:
        return {"step": "fails to open", "error": ctypes.get_errno()}
    error = libbpf.bpf_object__load(opened)
    if error:
        return {"step": "fails to load", "error": -error}
    if not libbpf.bpf_program__attach(libbpf.bpf_object__find_program_by_name(opened, b"smoke")):
        return {"step": "fails to attach", "error": ctypes.get_errno()}
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    with open("/tmp/a-file", "w"):
        pass
    os.unlink("/tmp/a-file")
    value = c_uint64()
    libbpf.bpf_map_lookup_elem(
        libbpf.bpf_object__find_map_fd_by_name(opened, b"seen"), ctypes.byref(c_uint32(0)), ctypes.byref(value)
    )
    by_helper, by_relocation = value.value >> 32, value.value & 0xFFFFFFFF
    right = by_helper == by_relocation == os.getpid()
    return {
        "step": "works" if right else "reads the wrong place",
        "helper": by_helper,
        "relocation": by_relocation,
        "pid": os.getpid(),
    }


if __name__ == "__main__":
    result = main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    print(json.dumps({"object": os.path.basename(sys.argv[1]), "btf": len(sys.argv) > 2, **result}), flush=True)
