"""Objects x kernel matrix -> for each kernel a minimized BTF and a verdict for every program.

Input: each package's objects by architecture, and the kernels. Output: a `PerKernel` for each package. A kernel that an
earlier build read is known by its excerpt, which is looked at once for all kernels that have the same; any other
kernel's BTF is read whole. Several processes share the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hatch_bpf.btf.excerpt import Excerpt, NotInExcerptError, RecordedBtf
from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler import bpftool
from hatch_bpf.core_relo import minimize
from hatch_bpf.core_relo.resolve import Matcher
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import KernelSource, Matrix
from hatch_bpf.kernels.version import version_bounds
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.libbpf_open import refusals_of_libbpf
from hatch_bpf.portability.object_check import Checker
from hatch_bpf.portability.verdicts import KernelReport, ProgramVerdict, Report
from hatch_bpf.project.alternatives import NONE, Alternatives
from hatch_bpf.project.config import Minimizer
from hatch_bpf.reuse.excerpts import KnownKernels
from hatch_bpf.reuse.file_identity import identity_of
from hatch_bpf.support.context import Context
from hatch_bpf.support.store import Store
from hatch_bpf.support.workers import run_all

Objects = Mapping[str, Sequence[ObjectModel]]
"""The objects of a package, by architecture."""


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
    fitter = _Fitter(packages, alternatives, minimizer, libbpf, store)
    found: dict[Kernel, _Results] = {}
    distinct: dict[_Result, _Result] = {}

    def note(sources: Sequence[KernelSource], results: _Results) -> None:
        # thousands of kernels share a few results
        shared = tuple(distinct.setdefault(result, result) for result in results)
        found.update((source.kernel, shared) for source in sources)
        context.meter.step("checking", len(found), len(matrix.sources), sources[-1].kernel)

    groups, new = fitter.group(matrix.sources)
    for (_, sources), results in zip(groups, run_all(fitter.recall, groups, alone=0.25), strict=True):
        if results is None:
            new += sources
        else:
            note(sources, results)
    for source, results in zip(new, run_all(fitter.read, new), strict=True):
        note([source], results)
    if new:
        store.prune()
    return [
        _per_kernel({source.kernel: found[source.kernel][number] for source in matrix.sources})
        for number in range(len(packages))
    ]


def _per_kernel(results: Mapping[Kernel, _Result]) -> PerKernel:
    reports = tuple(KernelReport(kernel, result.programs) for kernel, result in results.items())
    return PerKernel({kernel: result.minimized for kernel, result in results.items()}, Report(reports))


@dataclass(frozen=True)
class _Result:
    """One kernel's minimized BTF and verdicts for one package."""

    minimized: bytes
    programs: tuple[ProgramVerdict, ...]


_Results = tuple[_Result, ...]
"""One for each package."""
_SameExcerpt = tuple[str, list[KernelSource]]
"""An excerpt by name, and kernels that have it and get the same verdicts from it."""


class _Fitter:
    """Looks at one kernel after another, each time for all packages."""

    def __init__(
        self,
        packages: Sequence[Objects],
        alternatives: Alternatives,
        minimizer: Minimizer,
        libbpf: tuple[int, int] | None,
        store: Store,
    ) -> None:
        models = (model for objects in packages for of_arch in objects.values() for model in of_arch)
        # all at once, since starting a process takes longer than opening its objects
        refused = refusals_of_libbpf((model.elf for model in models), store)
        self._packages = [_PackageFitter(objects, alternatives, minimizer, libbpf, refused) for objects in packages]
        self._minimizer = minimizer
        self._known = KnownKernels(store)

    def group(self, sources: Sequence[KernelSource]) -> tuple[list[_SameExcerpt], list[KernelSource]]:
        """Known kernels by their excerpt, and those that have none yet."""
        groups: dict[tuple[object, ...], _SameExcerpt] = {}
        new = []
        for source in sources:
            # bpftool reads whole BTF itself
            excerpt = self._known.recall(source) if self._minimizer == "builtin" else None
            if excerpt is None:
                new.append(source)
            else:
                apart = [package.besides_btf(source.kernel) for package in self._packages]
                groups.setdefault((excerpt, *apart), (excerpt, []))[1].append(source)
        return list(groups.values()), new

    def recall(self, group: _SameExcerpt) -> _Results | None:
        """The results from a cached excerpt; None if the excerpt is gone or lacks something."""
        name, (source, *_) = group
        packed = self._known.excerpt(name)
        if packed is None:
            return None
        try:
            return self._look(source.kernel, Excerpt(packed, source=source.origin))
        except NotInExcerptError:
            return None

    def read(self, source: KernelSource) -> _Results:
        """The results from a kernel's whole BTF, whose excerpt is kept for the next build."""
        before = identity_of(source)
        whole = RecordedBtf(source.read(), source=source.origin)
        results = self._look(source.kernel, whole)
        if self._minimizer == "builtin":
            self._known.keep(source, whole, before)
        return results

    def _look(self, kernel: Kernel, btf: Btf) -> _Results:
        matcher = Matcher(btf)
        return tuple(package.look(kernel, matcher) for package in self._packages)


class _PackageFitter:
    """Minimizes and checks for one package. What it works out about the objects serves for all kernels."""

    def __init__(
        self,
        objects: Objects,
        alternatives: Alternatives,
        minimizer: Minimizer,
        libbpf: tuple[int, int] | None,
        refused: tuple[str, Mapping[bytes, str]],
    ) -> None:
        self._objects = objects
        # objects that several architectures share are looked at once
        alike = {arch: tuple(map(id, of_arch)) for arch, of_arch in objects.items()}
        distinct = {alike[arch]: of_arch for arch, of_arch in objects.items()}
        checkers = {key: Checker(of_arch, alternatives, libbpf, refused) for key, of_arch in distinct.items()}
        self._checkers = {arch: checkers[key] for arch, key in alike.items()}
        self._minimizer = minimizer
        externs = {e.name for of_arch in objects.values() for model in of_arch for e in model.kconfig}
        self._reads_version = "LINUX_KERNEL_VERSION" in externs

    def besides_btf(self, kernel: Kernel) -> tuple[object, ...]:
        """What verdicts on a kernel depend on besides its BTF."""
        return self._checkers[kernel.arch], version_bounds(kernel) if self._reads_version else None

    def look(self, kernel: Kernel, matcher: Matcher) -> _Result:
        """The result of one kernel."""
        objects = self._objects[kernel.arch]
        if self._minimizer == "bpftool":
            made = bpftool.minimize_by_bpftool(objects, matcher.target)
        else:
            made = minimize.extract(matcher.target, minimize.collect(objects, matcher))
        small = Matcher(Btf(made, source=f"minimized BTF of {kernel}"))
        features = KernelFeatures(matcher.target)
        return _Result(made, self._checkers[kernel.arch].verdicts(kernel, features, matcher, small))
