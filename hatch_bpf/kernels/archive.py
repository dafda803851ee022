"""A folder in BTFHub's layout, `distro/version/arch/release.btf.tar.xz`, and one file of it.

Input: the folder. Output: its kernels, sorted, each with its file; and a file's BTF. Raises `KernelError`.
Names inside a file cannot lead anywhere: only the bytes of its one member are taken.
"""

from __future__ import annotations

import io
import lzma
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePath

from hatch_bpf import arch as arches
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.formats import compression
from hatch_bpf.kernels.formats.kernel_file import open_kernel
from hatch_bpf.kernels.formats.raw_btf import check_btf
from hatch_bpf.kernels.formats.tar import only_member
from hatch_bpf.kernels.identity import UNKNOWN, Kernel
from hatch_bpf.runtime.printable import printable
from hatch_bpf.support.budget import BTF_BYTES

ARCHIVE_VARIABLE = "BTFHUB_ARCHIVE"
"""Environment variable that overrides `btf-archive`."""
SUFFIX = ".btf.tar.xz"
"""The ending of files that BTFHub and we pack."""
SUFFIXES = {SUFFIX: "xz", ".btf.tar.gz": "gzip", ".btf.tar.zst": "zstd", ".btf": ""}
"""Endings of the files that an archive may have, each with its compression; the last is a BTF as it is."""


@dataclass(frozen=True, order=True)
class ArchivedKernel:
    """A kernel of the archive."""

    kernel: Kernel
    path: Path
    """Its file; where it is downloaded to, if the archive is at a URL."""
    url: str = ""
    """Where its file is downloaded from."""


def list_kernels(folder: Path) -> tuple[ArchivedKernel, ...]:
    """Every kernel of the archive, sorted. Skips other files, hidden ones, and architectures without a BPF target."""
    if not folder.is_dir():
        raise KernelError(
            "there is no BTF archive here: let btf-archive (or the environment's BTFHUB_ARCHIVE, which overrides it) "
            f"name a folder that holds distro/version/arch/release{SUFFIX}",
            source=folder,
        )
    try:
        found = {path: kernel_at(path) for path in folder.glob("*/*/*/*")}
    except OSError as error:
        raise KernelError(f"this BTF archive cannot be read: {error.strerror}", source=folder) from error
    return tuple(sorted(ArchivedKernel(kernel, path) for path, kernel in found.items() if kernel))


def path_of(kernel: Kernel) -> Path:
    """Where an archive has a kernel, from the archive's folder on."""
    return Path(kernel.distro or UNKNOWN, kernel.version or UNKNOWN, kernel.arch, kernel.release + SUFFIX)


def kernel_at(path: PurePath) -> Kernel | None:
    """The kernel that an archive has at a path: the last four parts count.

    None for a file that is hidden or has another ending, and for an architecture without a BPF target. Raises
    `KernelError` for a name that no kernel can have.
    """
    distro, version, machine, name = path.parts[-4:]
    suffix = suffix_of(name)
    # macOS leaves hidden files beside each file of an archive that it unpacks
    is_hidden = any(part.startswith(".") for part in (distro, version, name))
    if is_hidden or not suffix or arches.by_machine(machine) is None:
        return None
    try:
        return Kernel.parse(f"{distro}/{version}/{machine}/{name.removesuffix(suffix)}")
    except KernelError as error:
        raise KernelError(str(error), source=str(path)) from error


def read_archived(path: Path) -> bytes:
    """The BTF of one file of an archive, whose name must be that of its member. Raises `KernelError`."""
    suffix = suffix_of(path.name)
    promised = SUFFIXES[suffix]
    with open_kernel(path) as (file, budget):
        if not promised:
            return check_btf(file.read(BTF_BYTES.most + 1), str(path))
        start = file.read(16)
        known = compression.detect(start)
        if known is None or known.name != promised:
            begin = start[:6].hex(" ") or "nothing"
            raise KernelError(f"not {promised} data: it starts with {begin}; get it anew", source=path)
        file.seek(0)
        name, data = only_member(compression.decompress(file, known, budget), budget)
    expected = path.name.removesuffix(suffix) + ".btf"
    if name != expected:
        raise KernelError(
            f'holds "{printable(name)}" where its own name promises "{expected}"; '
            "one of the two names is wrong: give the file the name of the kernel it is of",
            source=path,
        )
    return data


def suffix_of(name: str) -> str:
    """Which of `SUFFIXES` a file's name ends in; empty if none. Raises nothing."""
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def pack_archived(btf: bytes, kernel: Kernel) -> bytes:
    """A .btf.tar.xz that depends on nothing but the BTF and the release: no time, no owner."""
    member = tarfile.TarInfo(f"{kernel.release}.btf")
    member.size = len(btf)
    member.mode = 0o644
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as opened:
        opened.addfile(member, io.BytesIO(btf))
    return lzma.compress(tar.getvalue(), preset=9 | lzma.PRESET_EXTREME)
