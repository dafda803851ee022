"""Several BPF objects -> one: libbpf's static linker, as in `bpftool gen object`.

Input: objects of one architecture. Output: the linked object, without DWARF; or `LinkError` with libbpf's own message.
Types that the objects share are stored once, and an `extern` in one is resolved in another.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path

from hatch_bpf.errors import LinkError, ToolchainError
from hatch_bpf.runtime.errors import LibbpfNotFoundError
from hatch_bpf.runtime.libbpf import library as libbpf
from hatch_bpf.runtime.libbpf.messages import Capture
from hatch_bpf.support.own_libbpf import own_library
from hatch_bpf.support.scratch import Scratch


def link_objects(objects: Sequence[tuple[str, bytes]], *, name: str) -> bytes:
    """Link objects, given with the names of their sources. Raises `LinkError`, or `ToolchainError` without libbpf."""
    library, functions = _libbpf()
    with Scratch() as folder, Capture(library) as said:
        target, names = Path(folder, "linked.o"), dict[str, str]()
        linker = functions.bpf_linker__new(bytes(target), None)
        if not linker:
            raise LinkError(f"{name}: libbpf's linker cannot start: {'; '.join(said.lines)}")
        try:
            for number, (source, data) in enumerate(objects):
                path = Path(folder, f"{number}.o")
                names[str(path)] = source
                path.write_bytes(data)
                if functions.bpf_linker__add_file(linker, bytes(path), None):
                    raise LinkError(
                        f"{name}: {source} cannot be linked with the others: {_with_sources(said.lines, names)}"
                    )
            if functions.bpf_linker__finalize(linker):
                raise LinkError(f"{name}: what was linked does not fit together: {_with_sources(said.lines, names)}")
        finally:
            functions.bpf_linker__free(linker)
        return target.read_bytes()


def _with_sources(said: Sequence[str], names: Mapping[str, str]) -> str:
    """libbpf's log, with the sources' names in place of the temporary files' names."""
    text = "; ".join(said)
    for path, source in names.items():
        text = text.replace(path, source)
    return text


def _libbpf() -> tuple[libbpf.Libbpf, ctypes.CDLL]:
    """The linker's functions in hatch-bpf's own libbpf, so that every machine makes the same object; else in this
    machine's."""
    own = own_library()
    try:
        library = libbpf.load(str(own) if own else None)
    except LibbpfNotFoundError as error:
        raise ToolchainError(f"linking several sources into one object needs libbpf: {error}") from error
    functions = ctypes.CDLL(library.path)
    functions.bpf_linker__new.restype = ctypes.c_void_p
    functions.bpf_linker__new.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
    functions.bpf_linker__add_file.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    functions.bpf_linker__finalize.argtypes = (ctypes.c_void_p,)
    functions.bpf_linker__free.argtypes = (ctypes.c_void_p,)
    functions.bpf_linker__free.restype = None
    return library, functions
