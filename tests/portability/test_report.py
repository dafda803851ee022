"""The model of the report, and that text, tables and page say the same of it."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from hatch_bpf.cli.tables import show_report
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.pipeline import judge
from hatch_bpf.portability.html import render_html
from hatch_bpf.portability.report import model_of
from hatch_bpf.portability.text import render_failures, render_text
from hatch_bpf.portability.verdicts import (
    KernelReport,
    PortabilityError,
    ProgramVerdict,
    Reason,
    ReasonKind,
    Report,
    Verdict,
    Weight,
    decide,
)
from hatch_bpf.project.config import parse_config
from hatch_bpf.project.sources import Project
from hatch_bpf.support.context import Context
from tests.portability.test_html import parse

MISSING = Reason(ReasonKind.CO_RE_MISSING, Weight.FAILS, "a.b is not in this kernel", "guard it", "src/p.bpf.c:7")
LICENSE = Reason(ReasonKind.LICENSE, Weight.FAILS, "no license", "name one", on_any_kernel=True)
GLOBAL = Reason(ReasonKind.HELPER_MISSING, Weight.CONDITIONAL, "this kernel has no bpf_loop()", "guard the call")


def verdict(
    *reasons: Reason, program: str = "one", path: str = "src/p.bpf.o", is_optional: bool = False
) -> ProgramVerdict:
    found, ordered = decide(list(reasons))
    return ProgramVerdict(path, program, found, ordered, is_optional)


def kernel(number: int, arch: str = "x86_64") -> Kernel:
    return Kernel("debian", "12", arch, f"6.1.0-{number}-{arch}")


def report(*outcomes: tuple[ProgramVerdict, ...]) -> Report:
    return Report(tuple(KernelReport(kernel(number), found) for number, found in enumerate(outcomes, 1)))


BETWEEN = report(*[(verdict(*[MISSING] * (number in (3, 4))),) for number in range(1, 7)])
"""Of six kernels, the third and the fourth fail."""


def as_table(of: Report, *, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_report(console, of)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_range_holds_no_kernel_that_is_not_meant() -> None:
    loading, failing = model_of(BETWEEN).groups
    assert (loading.label, failing.label) == ("A", "B")
    (ranges,) = loading.ranges
    assert str(ranges) == "debian/12/x86_64/ 6.1.0-1-x86_64, 6.1.0-2-x86_64, 6.1.0-5-x86_64, 6.1.0-6-x86_64"
    assert str(failing.ranges[0]) == "debian/12/x86_64/ 6.1.0-3-x86_64, 6.1.0-4-x86_64"


def test_a_run_of_neighbours_is_told_by_its_ends() -> None:
    of = report(*[(verdict(*[MISSING] * (number == 4)),) for number in range(1, 10)])
    loading, failing = model_of(of).groups
    assert loading.ranges[0].runs == ("6.1.0-1-x86_64 to 6.1.0-3-x86_64 (3)", "6.1.0-5-x86_64 to 6.1.0-9-x86_64 (5)")
    assert failing.ranges[0].runs == ("6.1.0-4-x86_64",)


MIXED = Report(
    tuple(
        KernelReport(
            kernel(number, arch),
            (
                verdict(*[MISSING] * (number in (3, 4))),
                verdict(*[GLOBAL] * (number < 3), program="two"),
                verdict(LICENSE, program="three", is_optional=True),
            )
            if arch == "x86_64"
            else (verdict(program="four", path="src/q.bpf.o"),),
        )
        for number in range(1, 7)
        for arch in ("x86_64", "arm64")
    )
)


@pytest.mark.parametrize("of", [BETWEEN, MIXED])
def test_text_tables_and_page_say_the_same(of: Report) -> None:
    """Verdicts of every program on every kernel, and for every reason the same kernels, words, places and remedy."""
    model = model_of(of)
    text, table, page = words(render_text(of)), words(as_table(of)), parse(render_html(of))
    for group in model.groups:
        for ranges in group.ranges:
            assert str(ranges) in text
            assert str(ranges) in table
    assert len(model.blocks) == len(list(page.all("article")))
    for program, block in model.blocks:
        head = f"{program.label} on {model.groups_of(block)}: {block.verdict.value}"
        assert head in text
        assert head in table
        article = page.by_id(f"f{block.number}")
        assert f"{block.verdict.value} on {len(block.kernels)} of {len(program.verdicts)} kernels" in article.text
        assert [run.text for run in article.all("dd")] == [run for ranges in block.ranges for run in ranges.runs]
        for reason in block.reasons:
            assert reason.message in text
            assert reason.message in table
            for part in (reason.what, reason.remedy, reason.place):
                assert part in article.text
        kernels = {
            kernel
            for group in model.groups
            if group.label in model.groups_of(block).split(", ")
            for kernel in group.kernels
        }
        assert kernels == set(block.kernels)
    shown = {word: int(count) for count, word in re.findall(r"(\d+) ([a-z-]+)", model.summary.partition(": ")[2])}
    for verdict_, count in model.counts.items():
        assert shown.get(verdict_.value, 0) == count
    assert model.summary in text
    assert model.summary in table


def test_two_programs_of_one_name_keep_their_verdicts() -> None:
    """Two packages may have objects of the same name, and even of the same path."""
    of = Report((KernelReport(kernel(1), (verdict(),)), KernelReport(kernel(1), (verdict(MISSING),))))
    model = model_of(of)
    assert [list(program.verdicts.values()) for program in model.programs] == [[Verdict.LOADS], [Verdict.FAILS]]
    assert "p.one loads p.one fails" in words(render_text(of))


def test_what_fails_on_any_kernel_is_not_cured_by_leaving_kernels_out() -> None:
    failures = render_failures(report((verdict(LICENSE),), (verdict(MISSING),)))
    assert f"p.one fails on {kernel(1)}:\n  no license: name one\n" in failures
    assert f"guard it, or remove {kernel(2)} from the option `kernels`" in failures


def test_the_summary_of_one_pair() -> None:
    assert model_of(report((verdict(),))).summary == "1 program on 1 kernel: loads"
    assert model_of(report((verdict(),), (verdict(),))).summary == "1 program on 2 kernels: loads everywhere"


def test_a_build_that_stops_hands_over_its_report(tmp_path: Path) -> None:
    config = parse_config({}, key="tool.hatch-bpf", root=tmp_path, environ={})
    project = Project(root=tmp_path, config=config, sources=(), folders={}, commands={})
    said: list[str] = []
    with pytest.raises(PortabilityError) as raised:
        judge(BETWEEN, project, Context(said.append))
    assert raised.value.report is BETWEEN
    assert "p.one fails on 2 of 6 kernels:" in str(raised.value)
    assert said == ["1 program on 6 kernels: 4 loads, 2 fails"]
