"""A folder in BTFHub's layout, `distro/version/arch/release.btf.tar.xz`, and one file of it.

Input: the folder. Output: its kernels, sorted, each with its file; and a file's BTF. Raises `KernelError`.
Names inside a file cannot lead anywhere: only the bytes of its one member are taken.
"""

from __future__ import annotations

import io
import lzma
import tarfile
from dataclasses import dataclass
from pathlib import Path

from hatch_bpf import arch as arches
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.formats import compression
from hatch_bpf.kernels.formats.raw_btf import MAX_BTF, check_btf
from hatch_bpf.kernels.identity import UNKNOWN, Kernel

SUFFIX = ".btf.tar.xz"
"""How BTFHub packs, and we do."""
SUFFIXES = {SUFFIX: "xz", ".btf.tar.gz": "gzip", ".btf.tar.zst": "zstd", ".btf": ""}
"""Endings of the files that an archive may have, each with its compression; the last is a BTF as it is."""
MAX_TAR = MAX_BTF + (1 << 20)
"""Largest tar taken: the BTF and what tar puts around it, in bytes."""


@dataclass(frozen=True, order=True)
class ArchivedKernel:
    """A kernel of the archive."""

    kernel: Kernel
    path: Path
    """Its file; where it is downloaded to, if the archive is at a URL."""
    url: str = ""
    """Where its file is downloaded from."""


def list_kernels(folder: Path) -> tuple[ArchivedKernel, ...]:
    """Every kernel of the archive, sorted. Other files, hidden ones, and architectures that BPF has no target for are
    passed over."""
    if not folder.is_dir():
        raise KernelError(
            f"there is no BTF archive at {folder}: let btf-archive (or the environment's BTFHUB_ARCHIVE, which "
            f"overrides it) name a folder that holds distro/version/arch/release{SUFFIX}"
        )
    try:
        found = [_identify(path) for path in folder.glob("*/*/*/*")]
    except OSError as error:
        raise KernelError(f"the BTF archive at {folder} cannot be read: {error}") from error
    return tuple(sorted(entry for entry in found if entry))


def path_of(kernel: Kernel) -> Path:
    """Where an archive has a kernel, from the archive's folder on."""
    return Path(kernel.distro or UNKNOWN, kernel.version or UNKNOWN, kernel.arch, kernel.release + SUFFIX)


def read_archived(path: Path) -> bytes:
    """The BTF of one file of an archive, whose name must be that of its member. Raises `KernelError`."""
    suffix = suffix_of(path.name)
    compression_name = SUFFIXES[suffix]
    try:
        with path.open("rb") as file:
            if not compression_name:
                return check_btf(file.read(MAX_BTF + 1), str(path))
            start = file.read(16)
            fmt = compression.detect(start)
            if fmt is None or fmt.name != compression_name:
                begin = start[:6].hex(" ") or "nothing"
                raise KernelError(f"{path}: not {compression_name} data: it starts with {begin}; get it anew")
            file.seek(0)
            tar = compression.decompress(file, fmt, limit=MAX_TAR, source=str(path))
    except OSError as error:
        raise KernelError(f"{path} cannot be read: {error}") from error
    name, data = only_member(tar, str(path))
    expected = path.name.removesuffix(suffix) + ".btf"
    if name != expected:
        raise KernelError(
            f'{path}: holds "{name}" where its own name promises "{expected}"; '
            f"one of the two names is wrong: give the file the name of the kernel it is of"
        )
    return data


def suffix_of(name: str) -> str:
    """Which of `SUFFIXES` a file's name ends in; empty if none. Raises nothing."""
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def pack(btf: bytes, kernel: Kernel) -> bytes:
    """A .btf.tar.xz that depends on nothing but the BTF and the release: no time, no owner."""
    member = tarfile.TarInfo(f"{kernel.release}.btf")
    member.size = len(btf)
    member.mode = 0o644
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as opened:
        opened.addfile(member, io.BytesIO(btf))
    return lzma.compress(tar.getvalue(), preset=9 | lzma.PRESET_EXTREME)


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
            # what extractfile() would copy several times
            data = tar[member.offset_data : member.offset_data + member.size]
            if len(data) != member.size:
                raise tarfile.ReadError("unexpected end of data")
    except KernelError:
        raise
    # tarfile lets more than its own errors out of hostile headers (ValueError, OverflowError, UnicodeError)
    except Exception as error:
        raise KernelError(f"{source}: its tar is corrupt or cut off ({error}); get the file anew") from error
    return name, check_btf(data, f"{source}, {name}")


def _identify(path: Path) -> ArchivedKernel | None:
    distro, version, machine, name = path.parts[-4:]
    arch, suffix = arches.by_machine(machine), suffix_of(name)
    # as macOS leaves them beside each file of an archive that it unpacks
    is_hidden = distro.startswith(".") or version.startswith(".") or name.startswith(".")
    if arch is None or not suffix or is_hidden:
        return None
    try:
        return ArchivedKernel(Kernel.parse(f"{distro}/{version}/{arch.name}/{name.removesuffix(suffix)}"), path)
    except KernelError as error:
        raise KernelError(f"{str(path)!r}: {error}") from error
