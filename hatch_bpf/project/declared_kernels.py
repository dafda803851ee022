"""The kernels that a project declares -> its matrix: the locked one, if there is a lock file.

Input: a `Config`, and where the lock would be. Output: a `Matrix`. Raises `KernelError`.
"""

from __future__ import annotations

from pathlib import Path

from hatch_bpf.kernels.lock import read_lock, resolve_locked
from hatch_bpf.kernels.matrix import Host, Matrix, resolve
from hatch_bpf.project.config import Config
from hatch_bpf.support.context import Notify, ignore


def find_kernels(
    config: Config,
    notify: Notify = ignore,
    *,
    lock: Path | None = None,
    only_host: bool = False,
) -> Matrix:
    """The kernel matrix; if the file `lock` exists, exactly the kernels in it. Warnings go to `notify`.

    A package may declare no kernels and rely on the running kernel's own BTF. Raises `KernelError`.
    """
    entries = [entry for entry in config.kernels if isinstance(entry, Host) or not only_host]
    if not entries:
        return Matrix((), ())
    archs = [arch.name for arch in config.archs]
    if lock and not only_host and (locked := read_lock(lock)):
        matrix = resolve_locked(entries, archs=archs, archive=config.btf_archive, lock=locked, path=lock)
    else:
        matrix = resolve(entries, archs=archs, archive=config.btf_archive)
    matrix.warn(notify)
    return matrix
