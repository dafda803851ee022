"""Objects and minimized BTFs that came with the sources -> the same, if they still fit.

Input: a package whose `_bpf` folder came with an sdist or is committed. Output: a `Shipped`; or None, after saying why,
where the folder is missing or does not fit. The record in it names everything that went in and everything that came
out. With it an sdist installs without clang, headers or archive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hatch_bpf.compiler.inputs import digest
from hatch_bpf.compiler.packages import CompiledPackage
from hatch_bpf.errors import HatchBpfError, KernelError
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.objects.model import read_object
from hatch_bpf.project.sources import Package, Project
from hatch_bpf.runtime.errors import PackageError
from hatch_bpf.runtime.host.digest import sha256
from hatch_bpf.runtime.host.embedded import Embedded
from hatch_bpf.runtime.printable import printable
from hatch_bpf.support.budget import BYTES, EMBEDDED_BTFS, LIST_BYTES, LISTED_KERNELS, Budget
from hatch_bpf.support.context import Context
from hatch_bpf.support.files import read_regular
from hatch_bpf.wheel.contents import KERNELS_NAME
from hatch_bpf.wheel.record import RECORD_NAME, Record, RecordError

_BYTES_PER_STEP = 16
"""Bytes of minimized BTF that are put together, and read, in the time of a step."""
_STEPS_PER_FOLDER = 1000
"""What listing the headers in a folder costs of a budget. Real projects search a few folders."""


_MARK_OF_SDIST = "PKG-INFO"
"""The file that every unpacked sdist has at its top. Nobody knows which files a command reads, and in an sdist they do
not change."""


@dataclass(frozen=True)
class Shipped:
    """What an earlier build made of a package."""

    compiled: CompiledPackage
    minimized: Mapping[Kernel, bytes]


class _MisfitError(Exception):
    """Says why shipped files cannot serve; never leaves this module."""


def find_shipped(package: Package, project: Project, context: Context) -> Shipped | None:
    """The shipped objects and BTFs of a package, if they still fit the sources and the options."""
    folder = project.root / package.tree_dir
    if not (folder / RECORD_NAME).is_file():
        return None
    try:
        found = _load(folder, package, project)
    except (_MisfitError, KernelError) as misfit:
        context.notify(f"building anew what is in {package.tree_dir}: {misfit}")
        return None
    context.notify(
        f"taking the objects in {package.tree_dir}, which fit the sources ({printable(found.compiled.compiler)})"
    )
    return found


def _load(folder: Path, package: Package, project: Project) -> Shipped:
    by_command = [part for source in package.sources for part in source.parts if part in project.commands]
    if by_command and not (project.root / _MARK_OF_SDIST).is_file():
        raise _MisfitError(f"what the command for {by_command[0]} reads may have changed; only an sdist ships objects")
    # the record may name the same file a thousand times
    budget = Budget(RECORD_NAME)
    try:
        record = Record.decode(_read(folder, RECORD_NAME, budget))
    except RecordError as error:
        raise _MisfitError(f"{RECORD_NAME} {error}") from error
    _check_inputs(record, package, project, budget)
    outputs = {name: _read(folder, name, budget) for name in record.outputs}
    for name, expected in record.outputs.items():
        if sha256(outputs[name]) != expected:
            raise _MisfitError(f"{name} has changed")
    try:
        objects = {
            arch.name: tuple(
                read_object(outputs[f"{arch.name}/{source.object_name}"], path=source.object_name)
                for source in package.sources
            )
            for arch in project.config.archs
        }
        minimized = _embedded(outputs[KERNELS_NAME], budget)
    except (KeyError, ValueError, HatchBpfError, PackageError) as error:
        raise _MisfitError(f"the record does not name all of it ({error})") from error
    return Shipped(CompiledPackage(objects, record.inputs, record.compiler), minimized)


def _check_inputs(record: Record, package: Package, project: Project, budget: Budget) -> None:
    """Raise `_MisfitError` for anything that is not as it was when the objects were made."""
    if record.options != project.config.digest:
        raise _MisfitError("the options have changed")
    lock = project.lock.name
    for name, expected in record.inputs.items():
        # an sdist may leave the lock out, and then nothing contradicts it
        if name == lock and not project.lock.exists():
            continue
        if name.endswith("/"):
            budget.work(_STEPS_PER_FOLDER)
            if digest(project.root, name) != expected:
                raise _MisfitError(f"the headers in {name} are not the same ones")
        elif sha256(_read(project.root, name, budget)) != expected:
            raise _MisfitError(f"{name} has changed")
    if project.lock.exists() and lock not in record.inputs:
        raise _MisfitError(f"{lock} is new")
    for file in (file for source in package.sources for file in project.files_of(source)):
        if str(file) not in record.inputs:
            raise _MisfitError(f"{file} is new")


def _embedded(data: bytes, budget: Budget) -> dict[Kernel, bytes]:
    # a line for each kernel and, before each group, two more
    LISTED_KERNELS.check(data[: LIST_BYTES.most].count(b"\n") // 3, source=KERNELS_NAME)
    embedded = Embedded(data, KERNELS_NAME)
    kernels = embedded.kernels()
    numbers = sorted(set(kernels.values()))
    EMBEDDED_BTFS.check(len(numbers), source=KERNELS_NAME)
    btfs = {}
    for number in numbers:
        btfs[number] = embedded.btf(number)
        budget.work(len(btfs[number]) // _BYTES_PER_STEP)
    return {Kernel.parse(kernel): btfs[number] for kernel, number in kernels.items()}


def _read(folder: Path, name: str, budget: Budget) -> bytes:
    """The contents of an ordinary file. The record may name anything, also a device without end."""
    try:
        data = read_regular(folder / name, BYTES)
    except FileNotFoundError as error:
        raise _MisfitError(f"{name} is missing") from error
    except OSError as error:
        raise _MisfitError(f"{name} cannot be read: {error.strerror}") from error
    budget.unpack(len(data))
    return data
