"""What is fuzzed: `TARGETS`, by name.

A target takes bytes that anyone may have made, and goes on with what was read as a build does. It lets `HatchBpfError`
and `BpfError` pass, which is how bad input is to be refused; whatever else gets out is a fault.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path, PurePosixPath

from fuzz import recipes, seeds
from hatch_bpf.arch import X86_64
from hatch_bpf.btf.c_dump import dump_c
from hatch_bpf.btf.ext import read_btf_ext
from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler.other_compilers import checked_object
from hatch_bpf.core_relo.minimize import minimize
from hatch_bpf.errors import HatchBpfError
from hatch_bpf.kernels.archive import read_archived
from hatch_bpf.kernels.formats.compression import XZ
from hatch_bpf.kernels.formats.kernel_file import read_kernel
from hatch_bpf.kernels.formats.tar import only_member
from hatch_bpf.kernels.identify import identify
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.lock import read_lock
from hatch_bpf.kernels.remote.archive_url import parse_index
from hatch_bpf.objects.model import ObjectModel, read_object
from hatch_bpf.portability.text import render_failures
from hatch_bpf.project.config import parse_config
from hatch_bpf.runtime.errors import BpfError, SymbolError
from hatch_bpf.runtime.host.embedded import Embedded
from hatch_bpf.runtime.symbols.elf_image import ElfImage
from hatch_bpf.runtime.symbols.process_symbols import jit_functions
from hatch_bpf.runtime.symbols.symbol_files import SymbolFile
from hatch_bpf.skeleton.generate import SkeletonOptions, generate
from hatch_bpf.support.budget import Budget
from hatch_bpf.support.toml import parse_toml
from tests.common.on_kernels import KernelTypes, check_on

REFUSALS = (HatchBpfError, BpfError)
"""How bad input is to be refused."""

KERNEL = Kernel.parse("debian/12/x86_64/6.1.0-1-amd64")


@dataclass(frozen=True)
class Target:
    """One reader, and what comes behind it."""

    run: Callable[[bytes], None]
    """Raises one of `REFUSALS`, or nothing."""
    seeds: Callable[[], Mapping[str, bytes]]
    """Inputs to start from, by a name that says what they are."""
    max_length: int
    """Longest input, in bytes: long enough for every idea, short enough for speed."""


@cache
def _object() -> ObjectModel:
    return read_object(seeds.an_object(), path="seed.bpf.o")


@cache
def _kernel() -> Btf:
    return Btf(seeds.a_kernel(), source="seed")


def fit(kernel: Btf, model: ObjectModel | None = None, *, checked: bool = True) -> None:
    """What a build does with a kernel and an object: the seed, unless told."""
    model = model or _object()
    small = Btf(minimize([model], kernel), source="minimized")
    if checked:
        render_failures(check_on([model], [KernelTypes(KERNEL, kernel, small)]))


def _every_fourth(data: bytes) -> bool:
    """Whether an input is one of those that are taken further than is cheap."""
    return zlib.crc32(data) % 4 == 0


def read_btf(data: bytes) -> None:
    """A kernel's BTF: every type of it, vmlinux.h, and an object's relocations against it."""
    btf = Btf(data)
    try:
        names = dict.fromkeys(getattr(found, "name", "") for found in btf)
        for name in islice(names, 64):  # a build looks for some hundred
            btf.find(name)
    except REFUSALS:
        pass
    try:
        dump_c(btf)
    except REFUSALS:
        pass
    fit(btf, checked=_every_fourth(data))


def read_ext(data: bytes) -> None:
    """A .BTF.ext section beside an object's BTF."""
    read_btf_ext(data, _object().btf)


def read_program(data: bytes) -> None:
    """A BPF object: its skeleton, and its relocations against a kernel."""
    model = read_object(data, path="fuzzed.bpf.o")
    is_fourth = _every_fourth(data)
    try:
        if is_fourth:
            generate({"x86_64": model}, options=SkeletonOptions(source="fuzzed.bpf.c", class_name="Fuzzed"))
    except REFUSALS:
        pass
    fit(_kernel(), model, checked=is_fourth)


def read_given(data: bytes) -> None:
    """An object that another compiler than clang made."""
    checked_object(data, PurePosixPath("fuzzed.bpf.o"), X86_64)


def read_archive(data: bytes) -> None:
    """A file of an archive; what does not start as one that is compressed is taken for the tar in it."""
    if data.startswith(XZ):
        with _file(data, "6.1.0-1-amd64.btf.tar.xz") as path:
            read_archived(path)
    else:
        only_member(data, Budget("fuzzed"))


def read_index(data: bytes) -> None:
    """The list of an archive at a URL."""
    parse_index(data, source="fuzzed")


def read_config(data: bytes) -> None:
    """The table of a pyproject.toml. TOML itself is read by the build's front end before hatch-bpf sees it."""
    try:
        table = parse_toml(data)
    except ValueError:
        return
    parse_config(table, key="tool.hatch-bpf", root=Path("/nowhere"), environ={})


def read_locked(data: bytes) -> None:
    """A bpf-kernels.lock."""
    with _file(data, "bpf-kernels.lock") as path:
        read_lock(path)


def read_embedded(data: bytes) -> None:
    """A wheel's kernels.btfs."""
    embedded = Embedded(data, "fuzzed")
    for kernel, number in list(embedded.kernels().items())[:8]:
        try:
            embedded.btf(number)
        except REFUSALS:
            pass
        arch, _, release = kernel.partition("/")[2].partition("/")[2].partition("/")
        embedded.namesakes(arch=arch, release=release)


def read_package(data: bytes) -> None:
    """A kernel in any form: .deb, .rpm, vmlinuz, vmlinux."""
    with _file(data, "package") as path:
        clues = identify(path, read_kernel(path))
    if clues.distro and clues.version and clues.arch and clues.release:
        clues.kernel("fuzzed")


@contextmanager
def _file(data: bytes, name: str) -> Iterator[Path]:
    path = _folder() / name
    path.write_bytes(data)
    yield path


@cache
def _folder() -> Path:
    """In memory where there is a file system for that: millions of inputs pass through it."""
    memory = "/dev/shm"
    return Path(tempfile.mkdtemp(prefix="hatch-bpf-fuzz-", dir=memory if os.access(memory, os.W_OK) else None))


def read_symbols(data: bytes) -> None:
    """The functions of a program that somebody runs, and the list of a JIT compiler."""
    dict(jit_functions(data.splitlines()))
    try:
        file = SymbolFile(ElfImage(data), "/nowhere")
    except ValueError as error:
        raise SymbolError(str(error)) from error
    file.functions.find(file.bias(64) or 0)


TARGETS = {
    "btf": Target(read_btf, seeds.btfs, 4096),
    "ext": Target(read_ext, seeds.exts, 2048),
    "object": Target(read_program, seeds.objects, 8192),
    "given": Target(read_given, seeds.objects, 8192),
    "archive": Target(read_archive, seeds.archives, 8192),
    "index": Target(read_index, seeds.indexes, 1024),
    "config": Target(read_config, seeds.configs, 2048),
    "lock": Target(read_locked, seeds.locks, 1024),
    "embedded": Target(read_embedded, seeds.embedded, 4096),
    "symbols": Target(read_symbols, seeds.objects, 8192),
    "package": Target(read_package, seeds.packages, 8192),
}


def _forged(name: str) -> Target:
    """A target that is given recipes for files, not files."""
    return Target(
        lambda data: TARGETS[name].run(recipes.FILES[name](recipes.Recipe(data))),
        lambda: {"first": b"", "some": bytes(range(0, 256, 5))},
        64,
    )


TARGETS |= {f"forged-{name}": _forged(name) for name in recipes.FILES}
