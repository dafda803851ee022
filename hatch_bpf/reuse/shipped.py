"""What an earlier build left in the source tree -> objects and minimized BTFs that need not be made again.

Input: a package whose `_bpf` folder came with an sdist or is committed. Output: a `Prebuilt`; or None, with the reason
told, where there is none or it does not fit. What ties the two together is the record `build.json`: the sha256 of
everything that went in and of everything that came out. With it an sdist installs without clang, headers or archive.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_bpf.compiler.clang import CompiledPackage
from hatch_bpf.errors import HatchBpfError
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.objects.model import read_object
from hatch_bpf.project.sources import Package, Project
from hatch_bpf.runtime.embedded import Embedded
from hatch_bpf.runtime.errors import PackageError
from hatch_bpf.wheel.artifacts import RECORD_NAME
from hatch_bpf.wheel.contents import KERNELS_NAME, RECORD_FORMAT


@dataclass(frozen=True)
class Prebuilt:
    """What an earlier build made of a package."""

    compiled: CompiledPackage
    minimized: Mapping[Kernel, bytes]


class _MisfitError(Exception):
    """Why what is there cannot serve; never leaves this module."""


def find(package: Package, project: Project, notify: Callable[[str], None]) -> Prebuilt | None:
    """What an earlier build made, if it still fits the sources and the options."""
    folder = project.root / package.tree_dir
    if not (folder / RECORD_NAME).is_file():
        return None
    try:
        found = _load(folder, package, project)
    except _MisfitError as misfit:
        notify(f"building anew what is in {package.tree_dir}: {misfit}")
        return None
    notify(f"taking the objects in {package.tree_dir}, which fit the sources ({found.compiled.compiler})")
    return found


def _load(folder: Path, package: Package, project: Project) -> Prebuilt:
    record = _record(folder / RECORD_NAME)
    if record["options"] != project.config.digest:
        raise _MisfitError("the options have changed")
    lock = project.lock.name
    for name, digest in record["inputs"].items():
        # an sdist may have been told to leave the lock out: then there is nothing that contradicts it
        if name != lock or project.lock.exists():
            _check(project.root / name, digest, name)
    if project.lock.exists() and lock not in record["inputs"]:
        raise _MisfitError(f"{lock} is new")
    for source in package.sources:
        for part in source.parts:
            if str(part) not in record["inputs"]:
                raise _MisfitError(f"{part} is new")
    outputs = {name: _check(folder / name, digest, name) for name, digest in record["outputs"].items()}
    try:
        objects = {
            arch.name: tuple(
                read_object(outputs[f"{arch.name}/{source.object_name}"], path=source.object_name)
                for source in package.sources
            )
            for arch in project.config.archs
        }
        minimized = _embedded(outputs[KERNELS_NAME])
    except (KeyError, ValueError, HatchBpfError, PackageError) as error:
        raise _MisfitError(f"the record does not name all of it ({error})") from error
    return Prebuilt(CompiledPackage(objects, record["inputs"], record["compiler"]), minimized)


def _embedded(data: bytes) -> dict[Kernel, bytes]:
    embedded = Embedded(data, KERNELS_NAME)
    kernels = embedded.kernels()
    btfs = {number: embedded.btf(number) for number in sorted(set(kernels.values()))}
    return {Kernel.parse(kernel): btfs[number] for kernel, number in kernels.items()}


def _record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        if record["format"] != RECORD_FORMAT:
            raise _MisfitError(f"{path.name} is of another version of hatch-bpf")
        texts = (record["compiler"], record["options"], *record["inputs"].values(), *record["outputs"].values())
        if not all(isinstance(text, str) for text in texts):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _MisfitError(f"{path.name} is not a record of a build") from error
    return record


def _check(path: Path, digest: str, name: str) -> bytes:
    """The contents of a file, if they are still what the record says."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _MisfitError(f"{name} is missing") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise _MisfitError(f"{name} has changed")
    return data
