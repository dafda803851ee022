"""Objects that clang does not make: by a command that the project names, or found as they are.

Input: a program source with its command, or an object, and an architecture. Output: a `CompiledObject`, as from clang;
or the error that says why there is none, with the command's own output.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from hatch_bpf.arch import Arch
from hatch_bpf.compiler.clang import CompiledObject, operand
from hatch_bpf.compiler.strip import strip_debug
from hatch_bpf.errors import CompileError, ObjectError, ToolchainError
from hatch_bpf.objects.model import check_header
from hatch_bpf.project.config import ARCH_PLACE, OUTPUT_PLACE, SOURCE_PLACE
from hatch_bpf.project.sources import for_arch, headers_beside
from hatch_bpf.support.budget import OBJECT_BYTES
from hatch_bpf.support.files import read_regular
from hatch_bpf.support.scratch import Scratch

_SHOWN = 16 << 10
"""Bytes of a command's output that are shown: its end, where most compilers say what is wrong."""


def compile_by_command(
    source: PurePosixPath, command: Sequence[str], *, root: Path, arch: Arch, environ: Mapping[str, str]
) -> CompiledObject:
    """Run a source's command in the folder `root`, and take the object that it writes.

    Nothing shows what the command reads: the object counts as made of the source and the headers beside it.
    Raises `CompileError`, `ObjectError` or `ToolchainError`.
    """
    with Scratch() as folder:
        made, said = Path(folder, "object.o"), Path(folder, "output")
        places = {SOURCE_PLACE: operand(source), OUTPUT_PLACE: str(made), ARCH_PLACE: arch.name}
        argv = [_fill(word, places) for word in command]
        try:
            with said.open("wb") as output:
                status = subprocess.run(
                    argv,
                    cwd=root,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    check=False,
                    env=dict(environ),
                ).returncode
        except OSError as error:
            raise ToolchainError(
                f"{source} is compiled by {argv[0]}, which cannot be run: {error.strerror}. Install it, or mend the "
                "option commands"
            ) from error
        text = _end_of(said)
        if status:
            ended = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
            raise CompileError(str(source), f"{text}{argv[0]} {ended}.\n", archs=[arch.name])
        try:
            data = read_regular(made, OBJECT_BYTES.most)
        except OSError as error:
            why = f"{argv[0]} ended well, and wrote no object to {OUTPUT_PLACE}: {error.strerror}.\n"
            raise CompileError(str(source), text + why, archs=[arch.name]) from error
    read = (source, *headers_beside(root, source))
    return CompiledObject(source, checked_object(data, source, arch), text, read)


def take_object(source: PurePosixPath, *, root: Path, arch: Arch) -> CompiledObject:
    """An object that the project has. Raises `ObjectError`."""
    path = for_arch(source, arch)
    try:
        data = read_regular(root / path, OBJECT_BYTES.most)
    except OSError as error:
        raise ObjectError(f"cannot be read: {error.strerror}", source=str(path)) from error
    return CompiledObject(source, checked_object(data, path, arch), "", (path,))


def checked_object(data: bytes, path: PurePosixPath, arch: Arch) -> bytes:
    """The object without DWARF, if it is one for this architecture. Raises `ObjectError`."""
    check_header(data, path=f"{path} for {arch.name}", endian=arch.endian)
    return strip_debug(data, path=str(path))


def _fill(word: str, places: Mapping[str, str]) -> str:
    for place, value in places.items():
        word = word.replace(place, value)
    return word


def _end_of(output: Path) -> str:
    with output.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _SHOWN, 0))
        text = file.read().decode("utf-8", "replace")
    return f"[...]{text}" if size > _SHOWN else text
