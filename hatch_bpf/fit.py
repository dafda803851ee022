"""Objects x kernel matrix -> for each kernel a minimized BTF and a verdict for every program.

Input: a package's objects by architecture, and the kernels. Output: a `Fitted`. There are three ways to it, and the
quickest that will do is taken: what an excerpt answered to objects that asked the same; the excerpt, once for all
kernels that share it, where a kernel was met before; the whole BTF, which several processes read, each one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from hatch_bpf import bpftool, min_core_btf
from hatch_bpf.alternatives import NONE, Alternatives
from hatch_bpf.bpf_object import ObjectModel
from hatch_bpf.btf.excerpt import Excerpt, NotInExcerptError, RecordedBtf
from hatch_bpf.btf.reader import Btf
from hatch_bpf.cache import Store
from hatch_bpf.config import Minimizer
from hatch_bpf.core_relo import Matcher
from hatch_bpf.kernel_answers import Answers, KnownAnswers, answers_of, asked
from hatch_bpf.kernel_features import KernelFeatures, NotAnsweredError
from hatch_bpf.kernel_version import version_bounds
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import KernelSource, Matrix
from hatch_bpf.known_kernels import KnownKernels
from hatch_bpf.portability import Checker
from hatch_bpf.verdicts import KernelReport, ProgramVerdict, Report
from hatch_bpf.workers import run_all

Watch = Callable[[int, int, Kernel], None]
"""Told after each kernel, or several: how many are done, of how many, and the last one."""


@dataclass(frozen=True)
class Fitted:
    """What was made of every kernel of the matrix."""

    minimized: Mapping[Kernel, bytes]
    report: Report


def fit(
    objects: Mapping[str, Sequence[ObjectModel]],
    matrix: Matrix,
    *,
    minimizer: Minimizer,
    watch: Watch,
    alternatives: Alternatives = NONE,
    store: Store | None = None,
) -> Fitted:
    """Minimize every kernel's BTF for the objects of its architecture together, and check every program on it."""
    store = store or Store()
    fitter = _Fitter(objects, alternatives, minimizer, store)
    found: dict[Kernel, _Outcome] = {}
    distinct: dict[_Outcome, _Outcome] = {}

    def note(sources: Sequence[KernelSource], outcome: _Outcome) -> None:
        for source in sources:
            # thousands of kernels come to a few outcomes
            found[source.kernel] = distinct.setdefault(outcome, outcome)
        watch(len(found), len(matrix.sources), sources[-1].kernel)

    groups, new = fitter.group(matrix.sources)
    unknown = []
    # in this process alone, since what is learnt of the code on one kernel serves for the next
    for group in groups:
        outcome = fitter.judge(group)
        if outcome is None:
            unknown.append(group)
        else:
            note(group[1], outcome)
    for (_, sources), look in zip(unknown, run_all(fitter.recall, unknown, alone=0.25), strict=True):
        if look is None:
            new += sources
        else:
            fitter.learn(sources[0], look)
            note(sources, look.outcome)
    for source, look in zip(new, run_all(fitter.read, new), strict=True):
        fitter.learn(source, look)
        note([source], look.outcome)
    fitter.save()
    if new:
        store.prune()
    in_order = [source.kernel for source in matrix.sources]
    reports = tuple(KernelReport(kernel, found[kernel].programs) for kernel in in_order)
    return Fitted({kernel: found[kernel].minimized for kernel in in_order}, Report(reports))


@dataclass(frozen=True)
class _Outcome:
    """What one kernel comes to."""

    minimized: bytes
    programs: tuple[ProgramVerdict, ...]


@dataclass(frozen=True)
class _Look:
    """What one kernel comes to, and how it may be told again."""

    outcome: _Outcome
    answers: Answers | None = None
    excerpt: str = ""
    """The name of that which stands for it."""


_Group = tuple[str, list[KernelSource]]
"""An excerpt by name, and the kernels it stands for."""


class _Fitter:
    """Looks at one kernel after another; what it works out of the objects serves for all."""

    def __init__(
        self,
        objects: Mapping[str, Sequence[ObjectModel]],
        alternatives: Alternatives,
        minimizer: Minimizer,
        store: Store,
    ) -> None:
        self._objects = objects
        # what is the same for several architectures is looked at once
        alike = {arch: tuple(map(id, of_arch)) for arch, of_arch in objects.items()}
        distinct = {alike[arch]: of_arch for arch, of_arch in objects.items()}
        checkers = {key: Checker(of_arch, alternatives) for key, of_arch in distinct.items()}
        self._checkers = {arch: checkers[key] for arch, key in alike.items()}
        self._minimizer = minimizer
        self._known = KnownKernels(store)
        asked_for = {key: asked(of_arch) for key, of_arch in distinct.items()}
        answers = {digest: KnownAnswers(store, digest) for digest in asked_for.values()}
        self._answers = {arch: answers[asked_for[key]] for arch, key in alike.items()}
        self._judged: dict[tuple[object, ...], tuple[ProgramVerdict, ...] | None] = {}
        externs = {e.name for of_arch in objects.values() for model in of_arch for e in model.kconfig}
        self._reads_version = "LINUX_KERNEL_VERSION" in externs

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
                group = groups.setdefault((excerpt, *self._apart(source.kernel)), (excerpt, []))
                group[1].append(source)
        return list(groups.values()), new

    def _apart(self, kernel: Kernel) -> tuple[object, ...]:
        """What of a kernel verdicts depend on besides its BTF."""
        return self._checkers[kernel.arch], version_bounds(kernel) if self._reads_version else None

    def judge(self, group: _Group) -> _Outcome | None:
        """What a group of kernels comes to, of what is known of it; None if that is not enough."""
        name, (source, *_) = group
        arch = source.kernel.arch
        answers = self._answers[arch].get(name)
        if answers is None:
            return None
        key = (answers.facts, *self._apart(source.kernel))
        if key not in self._judged:
            features = KernelFeatures(None, dict(answers.facts.features))
            resolver = answers.facts.resolver(self._objects[arch])
            try:
                self._judged[key] = self._checkers[arch].verdicts(source.kernel, features, resolver, None)
            except NotAnsweredError:
                self._judged[key] = None
        verdicts = self._judged[key]
        return None if verdicts is None else _Outcome(answers.minimized, verdicts)

    def learn(self, source: KernelSource, look: _Look) -> None:
        """Note what a kernel's excerpt comes to."""
        if look.excerpt and look.answers:
            self._answers[source.kernel.arch].learn(look.excerpt, look.answers)

    def save(self) -> None:
        """Keep what was learnt for the next build."""
        for answers in set(self._answers.values()):
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
        whole = RecordedBtf(source.read(), source=source.origin)
        if self._minimizer == "bpftool":
            made = bpftool.minimize(self._objects[source.kernel.arch], whole)
            return self._check(source.kernel, Matcher(whole), made)
        look = self._look(source.kernel, whole)
        return replace(look, excerpt=self._known.keep(source, whole))

    def _look(self, kernel: Kernel, btf: Btf) -> _Look:
        matcher = Matcher(btf)
        made = min_core_btf.extract(btf, min_core_btf.collect(self._objects[kernel.arch], matcher))
        return self._check(kernel, matcher, made)

    def _check(self, kernel: Kernel, matcher: Matcher, made: bytes) -> _Look:
        small = Matcher(Btf(made, source=f"minimized BTF of {kernel}"))
        features = KernelFeatures(matcher.target)
        verdicts = self._checkers[kernel.arch].verdicts(kernel, features, matcher, small)
        answers = answers_of(self._objects[kernel.arch], matcher, small, made, features)
        return _Look(_Outcome(made, verdicts), answers)
