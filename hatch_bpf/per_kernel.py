"""Objects x kernel matrix -> for each kernel a minimized BTF and a verdict for every program.

Input: each package's objects by architecture, and the kernels. Output: a `PerKernel` for each package. A kernel that an
earlier build read is known by its excerpt: results on the same objects are found again, and otherwise worked out from
the excerpt, once for all kernels that have the same. Any other kernel's BTF is read whole. Several processes share the
work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from hatch_bpf.btf.excerpt import Excerpt, NotInExcerptError, RecordedBtf
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import KernelSource, Matrix
from hatch_bpf.portability.verdicts import KernelReport, Report
from hatch_bpf.project.alternatives import NONE, Alternatives
from hatch_bpf.project.config import Minimizer
from hatch_bpf.reuse.excerpts import KnownKernels
from hatch_bpf.reuse.file_identity import identity_of
from hatch_bpf.reuse.results import KnownResults, Objects, Result, Results
from hatch_bpf.support.context import Context
from hatch_bpf.support.store import Store
from hatch_bpf.support.workers import run_all

if TYPE_CHECKING:
    from hatch_bpf.one_kernel import Fitter


@dataclass(frozen=True)
class PerKernel:
    """The minimized BTF of every kernel of the matrix, and the verdicts on it, for one package."""

    minimized: Mapping[Kernel, bytes]
    report: Report


def fit(
    packages: Sequence[Objects],
    matrix: Matrix,
    context: Context,
    *,
    minimizer: Minimizer = "builtin",
    alternatives: Alternatives = NONE,
    libbpf: tuple[int, int] | None = None,
    store: Store | None = None,
) -> list[PerKernel]:
    """For each package, minimize every kernel's BTF for all objects of its architecture, and check every program on it.

    Each kernel is read once for all packages. `libbpf` is the version that the wheel brings; None if any may load.
    """
    store = store or Store()
    known, kept = KnownKernels(store), KnownResults(store, packages, alternatives, libbpf)
    found: dict[Kernel, Results] = {}
    distinct: dict[Result, Result] = {}

    def note(sources: Sequence[KernelSource], results: Results) -> None:
        # thousands of kernels share a few results
        shared = tuple(distinct.setdefault(result, result) for result in results)
        found.update((source.kernel, shared) for source in sources)
        context.meter.step("checking", len(found), len(matrix.sources), sources[-1].kernel)

    # bpftool reads whole BTF itself
    groups, new = _grouped(matrix.sources, known, kept) if minimizer == "builtin" else ([], list(matrix.sources))
    changed = []
    for group in groups:
        results = kept.recall(group.key)
        if results is None:
            changed.append(group)
        else:
            note(group.sources, results)
    if changed or new:
        from hatch_bpf.one_kernel import Fitter  # late, for builds that find all results again

        work = _Work(Fitter(packages, alternatives, minimizer, libbpf), minimizer, known, kept)
        for group, results in zip(changed, run_all(work.recall, changed, alone=0.25), strict=True):
            if results is None:
                new += group.sources
            else:
                note(group.sources, results)
        for source, results in zip(new, run_all(work.read, new), strict=True):
            note([source], results)
        store.prune()
    return [
        _per_kernel({source.kernel: found[source.kernel][number] for source in matrix.sources})
        for number in range(len(packages))
    ]


def _per_kernel(results: Mapping[Kernel, Result]) -> PerKernel:
    reports = tuple(KernelReport(kernel, result.programs) for kernel, result in results.items())
    return PerKernel({kernel: result.minimized for kernel, result in results.items()}, Report(reports))


class _Alike(NamedTuple):
    """Known kernels that have the same results."""

    key: str
    """That of the results."""
    excerpt: str
    sources: list[KernelSource]


def _grouped(
    sources: Sequence[KernelSource], known: KnownKernels, kept: KnownResults
) -> tuple[list[_Alike], list[KernelSource]]:
    """Known kernels by what their results depend on, and those that no build has read yet."""
    groups: dict[str, _Alike] = {}
    new = []
    for source in sources:
        excerpt = known.recall(source)
        if excerpt is None:
            new.append(source)
        else:
            key = kept.key(excerpt, source.kernel)
            groups.setdefault(key, _Alike(key, excerpt, [])).sources.append(source)
    return list(groups.values()), new


class _Work:
    """What processes do for a kernel, or for kernels that are alike."""

    def __init__(self, fitter: Fitter, minimizer: Minimizer, known: KnownKernels, kept: KnownResults) -> None:
        self._fitter, self._minimizer, self._known, self._kept = fitter, minimizer, known, kept

    def recall(self, group: _Alike) -> Results | None:
        """The results from a cached excerpt; None if the excerpt is gone or lacks something."""
        source = group.sources[0]
        packed = self._known.excerpt(group.excerpt)
        if packed is None:
            return None
        try:
            results = self._fitter.fit(source.kernel, Excerpt(packed, source=source.origin))
        except NotInExcerptError:
            return None
        self._keep(group.key, results)
        return results

    def read(self, source: KernelSource) -> Results:
        """The results from a kernel's whole BTF, whose excerpt is kept for the next build."""
        before = identity_of(source)
        whole = RecordedBtf(source.read(), source=source.origin)
        results = self._fitter.fit(source.kernel, whole)
        if self._minimizer == "builtin":
            excerpt = self._known.keep(source, whole, before)
            if excerpt is not None:
                self._keep(self._kept.key(excerpt, source.kernel), results)
        return results

    def _keep(self, key: str, results: Results) -> None:
        if self._fitter.is_final:
            self._kept.keep(key, results)
