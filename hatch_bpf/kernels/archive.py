"""A folder in BTFHub's layout, `distro/version/arch/release.btf.tar.xz`, and one file of it.

Input: the folder. Output: its kernels, sorted, each with its file; and a file's BTF. Raises `KernelError`.
Nothing from an archive is ever written to disk: names inside it cannot lead anywhere.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from hatch_bpf import arch as arches
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels import compression
from hatch_bpf.kernels.identity import UNKNOWN, Kernel
from hatch_bpf.kernels.raw_btf import MAX_BTF, check_btf

SUFFIX = ".btf.tar.xz"
MAX_TAR = MAX_BTF + (1 << 20)
"""Largest tar taken: the BTF and what tar puts around it, in bytes."""


@dataclass(frozen=True, order=True)
class ArchivedKernel:
    """A kernel of the archive."""

    kernel: Kernel
    path: Path


def list_kernels(folder: Path) -> tuple[ArchivedKernel, ...]:
    """Every kernel of the archive, sorted. Other files and architectures that BPF has no target for are passed over."""
    if not folder.is_dir():
        raise KernelError(
            f"there is no BTF archive at {folder}: let btf-archive (or the environment's BTFHUB_ARCHIVE, which "
            f"overrides it) name a folder that holds distro/version/arch/release{SUFFIX}"
        )
    try:
        found = [_identify(path) for path in folder.glob("*/*/*/*" + SUFFIX)]
    except OSError as error:
        raise KernelError(f"the BTF archive at {folder} cannot be read: {error}") from error
    return tuple(sorted(entry for entry in found if entry))


def path_of(kernel: Kernel) -> Path:
    """Where an archive has a kernel, from the archive's folder on."""
    return Path(kernel.distro or UNKNOWN, kernel.version or UNKNOWN, kernel.arch, kernel.release + SUFFIX)


def read_archived(path: Path) -> bytes:
    """The BTF of one file of an archive, whose name must be that of its member. Raises `KernelError`."""
    try:
        with path.open("rb") as file:
            start = file.read(len(compression.XZ))
            if start != compression.XZ:
                raise KernelError(f"{path}: not xz data: it starts with {start.hex(' ') or 'nothing'}; get it anew")
            file.seek(0)
            (xz,) = (fmt for fmt in compression.FORMATS if fmt.magic == compression.XZ)
            tar = compression.decompress(file, xz, limit=MAX_TAR, source=str(path))
    except OSError as error:
        raise KernelError(f"{path} cannot be read: {error}") from error
    name, data = only_member(tar, str(path))
    expected = path.name.removesuffix(".tar.xz")
    if name != expected:
        raise KernelError(
            f'{path}: holds "{name}" where its own name promises "{expected}"; '
            f"one of the two names is wrong: give the file the name of the kernel it is of"
        )
    return data


def only_member(tar: bytes, source: str) -> tuple[str, bytes]:
    """Name and BTF of a tar's one member. Raises `KernelError` for any other tar."""
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as opened:
            members = [member for member in opened if not member.isdir() or member.name.strip("./")]
            if len(members) != 1:
                names = ", ".join(member.name for member in members[:4]) or "nothing"
                raise KernelError(
                    f"{source}: holds {len(members)} members ({names}); pack exactly one, the kernel's BTF"
                )
            (member,) = members
            name = member.name.removeprefix("./")
            if not member.isreg() or member.issparse():
                raise KernelError(f'{source}: "{member.name}" is not a regular file; pack the BTF itself')
            if "/" in name:
                raise KernelError(
                    f'{source}: "{member.name}" leads to another folder; pack the BTF under its bare name'
                )
            content = opened.extractfile(member)
            assert content is not None
            data = content.read()
    except KernelError:
        raise
    # tarfile lets more than its own errors out of hostile headers (ValueError, OverflowError, UnicodeError)
    except Exception as error:
        raise KernelError(f"{source}: its tar is corrupt or cut off ({error}); get the file anew") from error
    return name, check_btf(data, f"{source}, {name}")


def _identify(path: Path) -> ArchivedKernel | None:
    distro, version, machine, name = path.parts[-4:]
    arch = arches.by_machine(machine)
    if arch is None:
        return None
    return ArchivedKernel(Kernel.parse(f"{distro}/{version}/{arch.name}/{name.removesuffix(SUFFIX)}"), path)
