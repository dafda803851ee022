"""What a kernel has beside its BTF: where its image and configuration can be, and whether the lock takes them.

Input: a `KernelSource`, and what kind of file is looked for. Output: paths. Raises `KernelError` for a file that is
not the locked one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import path_of, suffix_of
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import LOCK_NAME, KernelSource


def beside(btf: Path, suffix: str) -> Path:
    """Where an archive has another file of the kernel whose BTF is at a path of it."""
    return btf.with_name(btf.name.removesuffix(suffix_of(btf.name)) + suffix)


def of_host(patterns: Sequence[str], release: str) -> list[Path]:
    """Where distributions have the running kernel's file."""
    return [Path(pattern.format(release)) for pattern in patterns]


def places(source: KernelSource, folder: Path | None, *, suffix: str, host_patterns: Sequence[str]) -> list[Path]:
    """Where a kernel's file can be: in the archive `folder`, and where the kernel's BTF is."""
    found = [beside(folder / path_of(source.kernel), suffix)] if folder else []
    if source.is_host:
        found += of_host(host_patterns, source.kernel.release)
    elif not source.url:
        found.append(beside(source.path, suffix))
    return found


def first_file(paths: Iterable[Path]) -> Path | None:
    """The first one that is there."""
    return next((path for path in paths if path.is_file()), None)


def check_locked(what: str, data: bytes, sha256: str | None, *, source: Path, kernel: Kernel) -> None:
    """Raise `KernelError` unless the lock takes this file; `sha256` is what `KernelSource` has of the lock."""
    found = hashlib.sha256(data).hexdigest()
    if sha256 is None or found == sha256:
        return
    why = f"its sha256 is {found} instead of {sha256}" if sha256 else "it is not there"
    raise KernelError(
        f"{what} is not the one that {LOCK_NAME} has: {why}. Get the one that was locked; if this one is right, run "
        "`hatch-bpf kernels lock` and look at what it changes",
        source=source,
        kernel=kernel,
    )
