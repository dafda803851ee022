"""Objects x one kernel's BTF -> its minimized BTF and a verdict for every program.

Input: each package's objects by architecture; then one kernel's BTF after another, whole or an excerpt. Output: a
`Result` for each package. What can be worked out about the objects alone is worked out once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hatch_bpf.btf.reader import Btf
from hatch_bpf.compiler import bpftool
from hatch_bpf.core_relo import minimize
from hatch_bpf.core_relo.resolve import Matcher
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.portability.libbpf_open import refusals_of_libbpf
from hatch_bpf.portability.object_check import Checker
from hatch_bpf.project.alternatives import Alternatives
from hatch_bpf.project.config import Minimizer
from hatch_bpf.reuse.results import Objects, Result, Results


class Fitter:
    """Minimizes and checks for all packages."""

    def __init__(
        self,
        packages: Sequence[Objects],
        alternatives: Alternatives,
        minimizer: Minimizer,
        libbpf: tuple[int, int] | None,
    ) -> None:
        models = (model for objects in packages for of_arch in objects.values() for model in of_arch)
        # all at once, since starting a process takes longer than opening its objects
        refused = refusals_of_libbpf(model.elf for model in models)
        self.is_final = refused is not None
        """Whether another build would have the same results: libbpf gave an answer, and in time."""
        self._packages = [
            _PackageFitter(objects, alternatives, minimizer, libbpf, refused or ("", {})) for objects in packages
        ]

    def fit(self, kernel: Kernel, btf: Btf) -> Results:
        """The results on one kernel. Raises `NotInExcerptError` where an excerpt lacks something."""
        matcher = Matcher(btf)
        return tuple(package.fit(kernel, matcher) for package in self._packages)


class _PackageFitter:
    """The same for one package."""

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

    def fit(self, kernel: Kernel, matcher: Matcher) -> Result:
        objects = self._objects[kernel.arch]
        if self._minimizer == "bpftool":
            made = bpftool.minimize_by_bpftool(objects, matcher.target)
        else:
            made = minimize.extract(matcher.target, minimize.collect(objects, matcher))
        small = Matcher(Btf(made, source=f"minimized BTF of {kernel}"))
        return Result(made, self._checkers[kernel.arch].verdicts(kernel, matcher, small))
