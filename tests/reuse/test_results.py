"""Results that earlier builds kept: found again by everything that they depend on, and by nothing less."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from hatch_bpf import one_kernel
from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.archive import read_archived
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.matrix import KernelSource, Matrix
from hatch_bpf.objects.model import read_object
from hatch_bpf.per_kernel import PerKernel, fit
from hatch_bpf.portability import libbpf_open
from hatch_bpf.portability.verdicts import ProgramVerdict, Reason, ReasonKind, Verdict, Weight
from hatch_bpf.project.alternatives import NONE, Alternatives
from hatch_bpf.reuse import results
from hatch_bpf.reuse.results import KnownResults, Result, Results
from hatch_bpf.support import own_libbpf, workers
from hatch_bpf.support.context import Context
from hatch_bpf.support.store import Store
from tests.common import c_programs, kernel_btfs, needs


def test_results_come_back_as_they_were_kept(tmp_path: Path) -> None:
    needs.own_libbpf()
    reasons = [
        Reason(kind, weight, "\udcff\n", "do this", "a.bpf.c:1", nearest="that", on_any_kernel=bool(weight))
        for kind in ReasonKind
        for weight in Weight
    ]
    programs = [
        ProgramVerdict("a.bpf.o", "one", verdict, tuple(reasons), is_optional=True, group="g", stand_in="two")
        for verdict in Verdict
    ]
    kept = (Result(b"\n\0BTF", tuple(programs)), Result(b"", ()), Result(b"other", (programs[0],)))
    known = KnownResults(Store(tmp_path), [], NONE, None)
    known.keep("key", kept)
    again = known.recall("key")
    assert again == kept
    assert repr(again) == repr(kept)  # with what does not count when two are compared
    assert known.recall("another key") is None


FENTRY = """
SEC("fentry/do_unlinkat") int enter(void *ctx) { return 0; }
"""
VERSION = """
extern int LINUX_KERNEL_VERSION __attribute__((section(".kconfig")));
SEC("tracepoint/sched/sched_switch") int look(void *ctx) { return LINUX_KERNEL_VERSION > 0x50a40 ? 1 : 0; }
"""


def kernel(arch: str = "x86_64", release: str = "5.10.0") -> KernelSource:
    """The oldest kernel of the example under a name of one's own; all of these have one excerpt."""
    return KernelSource(Kernel("a", "1", arch, release), kernel_btfs.FILES[kernel_btfs.EXAMPLES[0]], read_archived)


@dataclass(frozen=True)
class Build:
    """What a build asks about the kernels that it knows."""

    source: str = FENTRY
    path: str = "enter.bpf.o"
    kernels: tuple[KernelSource, ...] = (kernel(),)
    alternatives: Alternatives = NONE
    libbpf: tuple[int, int] | None = None

    def run(self, store: Store) -> PerKernel:
        model = read_object(c_programs.compile_bpf(self.source), path=self.path)
        objects = {kernel.kernel.arch: [model] for kernel in self.kernels}
        matrix = Matrix(self.kernels, ())
        return fit([objects], matrix, Context(), alternatives=self.alternatives, libbpf=self.libbpf, store=store)[0]


OTHERS = [
    Build(FENTRY.replace("return 0", "return 1")),
    Build(path="other.bpf.o"),
    Build(alternatives=Alternatives(optional=("enter",))),
    Build(libbpf=(1, 5)),
    Build(kernels=(kernel("arm64"),)),
]


@pytest.fixture(scope="module")
def excerpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with no results, and an excerpt that answers all that is asked here."""
    folder = tmp_path_factory.mktemp("store")
    for build in (Build(), *OTHERS, Build(VERSION)):
        build.run(Store(folder))
    shutil.rmtree(folder / "kernel-results", ignore_errors=True)
    return folder


@pytest.fixture
def store(excerpt: Path, tmp_path: Path) -> Store:
    shutil.copytree(excerpt, tmp_path / "store")
    return Store(tmp_path / "store")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Kernel]:
    """The kernels that are looked at, in this process alone."""
    seen, look = list[Kernel](), one_kernel.Fitter.fit

    def noted(fitter: one_kernel.Fitter, of: Kernel, btf: Btf) -> Results:
        seen.append(of)
        return look(fitter, of, btf)

    monkeypatch.setattr(one_kernel.Fitter, "fit", noted)
    monkeypatch.setattr(workers, "processors", lambda: 1)
    return seen


def test_the_same_build_looks_at_no_kernel_again(store: Store, looks: list[Kernel]) -> None:
    needs.own_libbpf()
    build = Build(kernels=(kernel(), kernel(release="5.10.1"), kernel("arm64")))
    first = build.run(store)
    assert [(of.arch, of.release) for of in looks] == [("x86_64", "5.10.0"), ("arm64", "5.10.0")]
    looks.clear()
    assert build.run(store) == first
    assert looks == []


@pytest.mark.parametrize("other", OTHERS)
def test_whatever_is_different_is_looked_at(other: Build, store: Store, looks: list[Kernel]) -> None:
    needs.own_libbpf()
    before = Build().run(store)
    looks.clear()
    after = other.run(store)
    assert len(looks) == 1
    shutil.rmtree(store.folder / "kernel-results")
    assert after == other.run(store)
    assert after != before or other.libbpf


def test_kernels_with_the_same_btf_differ_by_architecture(store: Store) -> None:
    """arm64 calls BPF programs in place of functions since Linux 6.4. The answer for x86_64 served for both."""
    build = Build(kernels=(kernel(), kernel("arm64")))
    for _ in range(2):
        verdicts = [of.programs[0].verdict for of in build.run(store).report.kernels]
        assert verdicts == [Verdict.NEEDS_KERNEL_BTF, Verdict.CANNOT_ATTACH]


def test_a_program_that_reads_the_version_gets_results_for_each(store: Store, looks: list[Kernel]) -> None:
    needs.own_libbpf()
    Build(VERSION, kernels=(kernel(release="5.10.1-a"),)).run(store)
    looks.clear()
    Build(VERSION, kernels=(kernel(release="5.10.1-b"), kernel(release="5.10.77"))).run(store)
    assert [of.release for of in looks] == ["5.10.77"]


def test_another_libbpf_of_hatch_bpf_is_asked(
    store: Store, looks: list[Kernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.own_libbpf()
    library = tmp_path / "libbpf.so.1"
    shutil.copy(own_libbpf.own_library() or "", library)
    for module in (own_libbpf, results):
        monkeypatch.setattr(module, "own_library", lambda: library)
    first = Build().run(store)
    with library.open("ab") as file:  # the same library, and another file
        file.write(b"\0")
    looks.clear()
    assert (Build().run(store), len(looks)) == (first, 1)


@pytest.mark.parametrize("answers", [True, False])
def test_what_libbpf_may_answer_otherwise_is_not_kept(
    answers: bool, store: Store, looks: list[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another libbpf may have come in place of the machine's; and one that did not answer may do so next time."""
    if answers:
        for module in (own_libbpf, results):
            monkeypatch.setattr(module, "own_library", lambda: None)
    else:
        monkeypatch.setattr(libbpf_open, "_ask", lambda *_: b"")
    Build().run(store)
    looks.clear()
    Build().run(store)
    assert len(looks) == 1
