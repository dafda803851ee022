"""Objects on kernels -> the portability report, from kernels' BTF that a test has at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.resolve import Matcher
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.portability.object_check import Checker
from hatch_bpf.portability.verdicts import KernelReport, Report
from hatch_bpf.project.alternatives import NONE, Alternatives


@dataclass(frozen=True)
class KernelTypes:
    """A kernel's types."""

    kernel: Kernel
    btf: Btf
    """All of its own BTF."""
    minimized: Btf | None = None
    """What is embedded for it; None to leave that out."""


def check_on(
    objects: Sequence[ObjectModel], kernels: Iterable[KernelTypes], *, alternatives: Alternatives = NONE
) -> Report:
    """The verdict for every program on every kernel."""
    checker = Checker(objects, alternatives)
    return Report(tuple(check_kernel(checker, kernel) for kernel in kernels))


def check_kernel(checker: Checker, kernel: KernelTypes) -> KernelReport:
    """The verdicts of a checker's programs on one kernel."""
    minimized = None if kernel.minimized is None else Matcher(kernel.minimized)
    return KernelReport(kernel.kernel, checker.verdicts(kernel.kernel, Matcher(kernel.btf), minimized))
