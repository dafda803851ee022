"""C compiled at test time: BPF objects, and "kernels", which are the BTF of a few globals."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects.model import ObjectModel, read_object
from tests.common import needs

_PRELUDE = """
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
#define SEC(name) __attribute__((section(name), used))
#define core __attribute__((preserve_access_index))
#define bpf_core_field_size(field) __builtin_preserve_field_info(field, 1)
#define bpf_core_field_exists(field) __builtin_preserve_field_info(field, 2)
#define bpf_core_field_signed(field) __builtin_preserve_field_info(field, 3)
#define bpf_core_field_lshift(field) __builtin_preserve_field_info(field, 4)
#define bpf_core_field_rshift(field) __builtin_preserve_field_info(field, 5)
#define bpf_core_type_id_local(type) __builtin_btf_type_id(*(type *)0, 0)
#define bpf_core_type_id_kernel(type) __builtin_btf_type_id(*(type *)0, 1)
#define bpf_core_type_exists(type) __builtin_preserve_type_info(*(type *)0, 0)
#define bpf_core_type_size(type) __builtin_preserve_type_info(*(type *)0, 1)
#define bpf_core_enum_value_exists(type, value) __builtin_preserve_enum_value(*(type *)value, 0)
#define bpf_core_enum_value(type, value) __builtin_preserve_enum_value(*(type *)value, 1)
"""
"""The names of libbpf's bpf_core_read.h, which need not be installed then."""


@cache
def compile_bpf(source: str, *, endian: str = "little", cpu: str = "v3") -> bytes:
    """An object of `source`; `SEC`, `core`, `u8` to `u64` and the `bpf_core_` macros are defined in it.

    Programs that name no license are under the GPL.
    """
    if "SEC(" in source and '"license"' not in source:
        source += '\nchar LICENSE[] SEC("license") = "GPL";'
    clang = needs.tool("clang")
    with TemporaryDirectory() as folder:
        path, text = Path(folder, "program.bpf.o"), Path(folder, "program.bpf.c")
        text.write_text(_PRELUDE + source)
        target = "bpfel" if endian == "little" else "bpfeb"
        command = [clang, "-g", "-O2", f"-mcpu={cpu}", "-target", target, "-c", str(text), "-o", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return path.read_bytes()


def model(source: str, *, endian: str = "little", cpu: str = "v3") -> ObjectModel:
    return read_object(compile_bpf(source, endian=endian, cpu=cpu), path="program.bpf.o")


def kernel(source: str, *, endian: str = "little") -> Btf:
    """The BTF of some C. It holds only what a global or a function uses."""
    return model(source, endian=endian).btf
