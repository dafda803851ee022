"""The BPF Type Format: types, reader, writer, .BTF.ext and C dump."""

from hatch_bpf.btf.reader import Btf

__all__ = ["Btf"]
