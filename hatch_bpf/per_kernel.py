"""Objects x kernel matrix -> for each kernel a minimized BTF and a verdict for every program.

Input: each package's objects by architecture, and the kernels. Output: a `Fitted` for each package. There are three
ways to it, and the quickest that will do for all packages is taken: what an excerpt answered to objects that asked the
same; the excerpt, once for all kernels that share it, where a kernel was met before; the whole BTF, which several
processes read, each one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from hatch_bpf.btf.excerpt import Excerpt, NotInExcerptError, RecordedBtf
from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler import bpftool
from hatch_bpf.core_relo import minimize
from hatch_bpf.core_relo.resolve import Matcher
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import KernelSource, Matrix
from hatch_bpf.kernels.version import version_bounds
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.portability.kernel_features import KernelFeatures, NotAnsweredError
from hatch_bpf.portability.object_check import Checker
from hatch_bpf.portability.verdicts import KernelReport, ProgramVerdict, Report
from hatch_bpf.project.alternatives import NONE, Alternatives
from hatch_bpf.project.config import Minimizer
from hatch_bpf.reuse.excerpts import KnownKernels
from hatch_bpf.reuse.file_identity import identity_of
from hatch_bpf.reuse.kernel_answers import Answers, KnownAnswers, answers_of, asked
from hatch_bpf.support.store import Store
from hatch_bpf.support.workers import run_all

Objects = Mapping[str, Sequence[ObjectModel]]
"""The objects of a package, by architecture."""
Watch = Callable[[int, int, Kernel], None]
"""Told after each kernel, or several: how many are done, of how many, and the last one."""


@dataclass(frozen=True)
class Fitted:
    """What was made of every kernel of the matrix for one package."""

    minimized: Mapping[Kernel, bytes]
    report: Report


def fit(
    objects: Objects,
    matrix: Matrix,
    *,
    minimizer: Minimizer,
    watch: Watch,
    alternatives: Alternatives = NONE,
    store: Store | None = None,
) -> Fitted:
    """As `fit_all()`, for one package."""
    (fitted,) = fit_all([objects], matrix, minimizer=minimizer, watch=watch, alternatives=alternatives, store=store)
    return fitted


def fit_all(
    packages: Sequence[Objects],
    matrix: Matrix,
    *,
    minimizer: Minimizer,
    watch: Watch,
    alternatives: Alternatives = NONE,
    store: Store | None = None,
) -> list[Fitted]:
    """For each package, minimize every kernel's BTF for the objects of its architecture together, and check every
    program on it. A kernel is looked at once for all packages."""
    store = store or Store()
    fitter = _Fitter(packages, alternatives, minimizer, store)
    found: dict[Kernel, _Outcomes] = {}
    distinct: dict[_Outcome, _Outcome] = {}

    def note(sources: Sequence[KernelSource], outcomes: _Outcomes) -> None:
        # thousands of kernels come to a few
        shared = tuple(distinct.setdefault(outcome, outcome) for outcome in outcomes)
        found.update((source.kernel, shared) for source in sources)
        watch(len(found), len(matrix.sources), sources[-1].kernel)

    groups, new = fitter.group(matrix.sources)
    unknown = []
    # in this process alone, since what is learnt of the code on one kernel serves for the next
    for group in groups:
        outcomes = fitter.judge(group)
        if outcomes is None:
            unknown.append(group)
        else:
            note(group[1], outcomes)
    for (_, sources), look in zip(unknown, run_all(fitter.recall, unknown, alone=0.25), strict=True):
        if look is None:
            new += sources
        else:
            fitter.learn(sources[0], look)
            note(sources, look.outcomes)
    for source, look in zip(new, run_all(fitter.read, new), strict=True):
        fitter.learn(source, look)
        note([source], look.outcomes)
    fitter.save()
    if new:
        store.prune()
    kernels = [source.kernel for source in matrix.sources]
    return [_fitted({kernel: found[kernel][number] for kernel in kernels}) for number in range(len(packages))]


def _fitted(outcomes: Mapping[Kernel, _Outcome]) -> Fitted:
    reports = tuple(KernelReport(kernel, outcome.programs) for kernel, outcome in outcomes.items())
    return Fitted({kernel: outcome.minimized for kernel, outcome in outcomes.items()}, Report(reports))


@dataclass(frozen=True)
class _Outcome:
    """What one kernel comes to for one package."""

    minimized: bytes
    programs: tuple[ProgramVerdict, ...]


_Outcomes = tuple[_Outcome, ...]
"""For each package."""


@dataclass(frozen=True)
class _Look:
    """What one kernel comes to, and how it may be told again."""

    outcomes: _Outcomes
    answers: tuple[Answers | None, ...]
    """For each package."""
    excerpt: str = ""
    """The name of that which stands for it; empty where it is not kept."""


_Group = tuple[str, list[KernelSource]]
"""An excerpt by name, and the kernels it stands for."""


class _Fitter:
    """Looks at one kernel after another, each time for all packages."""

    def __init__(
        self, packages: Sequence[Objects], alternatives: Alternatives, minimizer: Minimizer, store: Store
    ) -> None:
        self._packages = [_PackageFitter(objects, alternatives, minimizer, store) for objects in packages]
        self._minimizer = minimizer
        self._known = KnownKernels(store)

    def group(self, sources: Sequence[KernelSource]) -> tuple[list[_Group], list[KernelSource]]:
        """Kernels that come to the same, since they have one excerpt; and those of which none is known."""
        groups: dict[tuple[object, ...], _Group] = {}
        new = []
        for source in sources:
            # bpftool reads whole BTF itself
            excerpt = self._known.recall(source) if self._minimizer == "builtin" else None
            if excerpt is None:
                new.append(source)
            else:
                apart = [package.apart(source.kernel) for package in self._packages]
                group = groups.setdefault((excerpt, *apart), (excerpt, []))
                group[1].append(source)
        return list(groups.values()), new

    def judge(self, group: _Group) -> _Outcomes | None:
        """What a group of kernels comes to, of what is known of it; None if that is not enough."""
        name, (source, *_) = group
        outcomes = []
        for package in self._packages:
            outcome = package.judge(source.kernel, name)
            if outcome is None:
                return None
            outcomes.append(outcome)
        return tuple(outcomes)

    def learn(self, source: KernelSource, look: _Look) -> None:
        """Note what a kernel's excerpt comes to."""
        for package, answers in zip(self._packages, look.answers, strict=True):
            if look.excerpt and answers:
                package.answers[source.kernel.arch].learn(look.excerpt, answers)

    def save(self) -> None:
        """Keep what was learnt for the next build."""
        for package in self._packages:
            for answers in set(package.answers.values()):
                answers.save()

    def recall(self, group: _Group) -> _Look | None:
        """What a group of kernels comes to; None if that takes more than their excerpt knows."""
        name, (source, *_) = group
        packed = self._known.excerpt(name)
        if packed is None:
            return None
        try:
            return replace(self._look(source.kernel, Excerpt(packed, source=source.origin)), excerpt=name)
        except NotInExcerptError:
            return None

    def read(self, source: KernelSource) -> _Look:
        """What a kernel comes to whose BTF has to be read."""
        before = identity_of(source)
        whole = RecordedBtf(source.read(), source=source.origin)
        look = self._look(source.kernel, whole)
        return look if self._minimizer == "bpftool" else replace(look, excerpt=self._known.keep(source, whole, before))

    def _look(self, kernel: Kernel, btf: Btf) -> _Look:
        matcher = Matcher(btf)
        outcomes, answers = zip(*(package.look(kernel, matcher) for package in self._packages), strict=True)
        return _Look(outcomes, answers)


class _PackageFitter:
    """Says what kernels come to for one package; what it works out of the objects serves for all kernels."""

    def __init__(self, objects: Objects, alternatives: Alternatives, minimizer: Minimizer, store: Store) -> None:
        self._objects = objects
        # what is the same for several architectures is looked at once
        alike = {arch: tuple(map(id, of_arch)) for arch, of_arch in objects.items()}
        distinct = {alike[arch]: of_arch for arch, of_arch in objects.items()}
        checkers = {key: Checker(of_arch, alternatives) for key, of_arch in distinct.items()}
        self._checkers = {arch: checkers[key] for arch, key in alike.items()}
        self._minimizer = minimizer
        asked_for = {key: asked(of_arch) for key, of_arch in distinct.items()}
        answers = {digest: KnownAnswers(store, digest) for digest in asked_for.values()}
        self.answers = {arch: answers[asked_for[key]] for arch, key in alike.items()}
        """By architecture."""
        self._judged: dict[tuple[object, ...], tuple[ProgramVerdict, ...] | None] = {}
        externs = {e.name for of_arch in objects.values() for model in of_arch for e in model.kconfig}
        self._reads_version = "LINUX_KERNEL_VERSION" in externs

    def apart(self, kernel: Kernel) -> tuple[object, ...]:
        """What of a kernel verdicts depend on besides its BTF."""
        return self._checkers[kernel.arch], version_bounds(kernel) if self._reads_version else None

    def judge(self, kernel: Kernel, excerpt: str) -> _Outcome | None:
        """What a kernel comes to, of what is known of its excerpt; None if that is not enough."""
        answers = self.answers[kernel.arch].get(excerpt)
        if answers is None:
            return None
        key = (answers.facts, *self.apart(kernel))
        if key not in self._judged:
            features = KernelFeatures(None, dict(answers.facts.features))
            resolver = answers.facts.resolver(self._objects[kernel.arch])
            try:
                self._judged[key] = self._checkers[kernel.arch].verdicts(kernel, features, resolver, None)
            except NotAnsweredError:
                self._judged[key] = None
        verdicts = self._judged[key]
        return None if verdicts is None else _Outcome(answers.minimized, verdicts)

    def look(self, kernel: Kernel, matcher: Matcher) -> tuple[_Outcome, Answers | None]:
        """What a kernel comes to whose BTF is here, and the answers that tell it again."""
        objects = self._objects[kernel.arch]
        if self._minimizer == "bpftool":
            made = bpftool.minimize(objects, matcher.target)
        else:
            made = minimize.extract(matcher.target, minimize.collect(objects, matcher))
        small = Matcher(Btf(made, source=f"minimized BTF of {kernel}"))
        features = KernelFeatures(matcher.target)
        verdicts = self._checkers[kernel.arch].verdicts(kernel, features, matcher, small)
        return _Outcome(made, verdicts), answers_of(objects, matcher, small, made, features)
