"""Objects x kernel matrix -> for each kernel a minimized BTF and a verdict for every program.

Input: a package's objects by architecture, and the kernels. Output: a `Fitted`. Each kernel's BTF is read once, and
only one is held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatch_bpf import bpftool, min_core_btf
from hatch_bpf.alternatives import NONE, Alternatives
from hatch_bpf.bpf_object import ObjectModel
from hatch_bpf.btf.reader import Btf
from hatch_bpf.config import Config, Minimizer
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.lock import read_lock, resolve_locked
from hatch_bpf.kernels.matrix import Host, Matrix, resolve
from hatch_bpf.portability import Checker, KernelTypes
from hatch_bpf.verdicts import Report

MINIMIZERS = {"builtin": min_core_btf.minimize, "bpftool": bpftool.minimize}
Notify = Callable[[str], None]
"""Told of progress and warnings, a line each."""


@dataclass(frozen=True)
class Fitted:
    """What was made of every kernel of the matrix."""

    minimized: Mapping[Kernel, bytes]
    report: Report


def find_kernels(
    config: Config,
    notify: Notify,
    *,
    lock: Path | None = None,
    only_host: bool = False,
    download: bool = True,
    progress: Notify | None = None,
) -> Matrix:
    """The kernel matrix; if there is a file `lock`, exactly what that says.

    With `download`, what an archive at a URL has is fetched now, and told to `progress`, else to `notify`. A package
    may declare no kernels, and rely on the kernel's own BTF alone. Raises `KernelError`.
    """
    entries = [entry for entry in config.kernels if isinstance(entry, Host) or not only_host]
    if not entries:
        return Matrix((), ())
    archs = [arch.name for arch in config.archs]
    locked = read_lock(lock) if lock and not only_host else None
    if lock and locked:
        matrix = resolve_locked(entries, archs=archs, archive=config.btf_archive, lock=locked, path=lock)
    else:
        matrix = resolve(entries, archs=archs, archive=config.btf_archive)
    for warning in matrix.warnings:
        notify(f"warning: {warning}")
    if download:
        matrix.download(progress or notify)
    return matrix


def fit(
    objects: Mapping[str, Sequence[ObjectModel]],
    matrix: Matrix,
    *,
    minimizer: Minimizer,
    notify: Notify,
    alternatives: Alternatives = NONE,
) -> Fitted:
    """Minimize every kernel's BTF for the objects of its architecture together, and check every program on it."""
    minimize = MINIMIZERS[minimizer]
    checkers = {arch: Checker(of_arch, alternatives) for arch, of_arch in objects.items()}
    minimized: dict[Kernel, bytes] = {}
    reports = []
    for number, source in enumerate(matrix.sources, 1):
        kernel = source.kernel
        whole = Btf(source.read(), source=source.origin)
        made = minimized[kernel] = minimize(objects[kernel.arch], whole)
        small = Btf(made, source=f"minimized BTF of {kernel}")
        reports.append(checkers[kernel.arch].check(KernelTypes(kernel, whole, small)))
        sizes = f"{len(whole.data):,} -> {len(made):,} bytes of BTF"
        notify(f"{kernel}: {sizes} ({number} of {len(matrix.sources)})")
    return Fitted(minimized, Report(tuple(reports)))
