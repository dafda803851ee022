"""The portability report as text and JSON: exact output for small reports."""

from __future__ import annotations

import json

import pytest

from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.portability.report import NOT_CHECKED
from hatch_bpf.portability.text import render_failures, render_json, render_summary, render_text
from hatch_bpf.portability.verdicts import (
    KernelReport,
    ProgramVerdict,
    Reason,
    ReasonKind,
    Report,
    Verdict,
    Weight,
    decide,
)

MISSING = Reason(
    ReasonKind.CO_RE_MISSING,
    Weight.FAILS,
    "struct a.b is not in this kernel",
    "guard it with x(struct a, b)",
    "./src/p.bpf.c:7",
)
AGAIN = Reason(MISSING.kind, MISSING.weight, MISSING.what, MISSING.remedy, "./src/p.bpf.c:9")
NOTE = Reason(ReasonKind.ATTACH_TARGET_UNKNOWN, Weight.NOTE, "no function f")
OWN_BTF = Reason(ReasonKind.KERNEL_BTF, Weight.KERNEL_BTF, 'SEC("fentry/f") needs the kernel\'s own BTF')
OLD = "debian/11/x86_64/5.10.0-30-amd64", "debian/11/x86_64/5.10.0-32-amd64"
NEW = tuple(f"debian/12/x86_64/6.1.0-{abi}-amd64" for abi in (50, 9, 47, 10))


def program(name: str, *reasons: Reason, is_optional: bool = False) -> ProgramVerdict:
    verdict, ordered = decide(list(reasons))
    return ProgramVerdict("src/p.bpf.o", name, verdict, ordered, is_optional)


def report(**programs: tuple[ProgramVerdict, ...]) -> Report:
    kernels = [(name, programs["old"]) for name in OLD] + [(name, programs["new"]) for name in NEW]
    return Report(tuple(KernelReport(Kernel.parse(name), verdicts) for name, verdicts in kernels))


REPORT = report(
    old=(program("one", MISSING, AGAIN, NOTE), program("two", OWN_BTF)), new=(program("one"), program("two", OWN_BTF))
)


def test_the_heaviest_reason_decides() -> None:
    assert decide([NOTE])[0] is Verdict.LOADS
    assert decide([NOTE, OWN_BTF]) == (Verdict.NEEDS_KERNEL_BTF, (OWN_BTF, NOTE))
    assert decide([OWN_BTF, MISSING, OWN_BTF]) == (Verdict.FAILS, (MISSING, OWN_BTF))


def test_text() -> None:
    assert render_text(REPORT) == (
        "program  A                 B\n"
        "p.one    fails             loads\n"
        "p.two    needs-kernel-btf  needs-kernel-btf\n"
        "\n"
        "A: 2 kernels\n"
        "  debian/11/x86_64/ 5.10.0-30-amd64, 5.10.0-32-amd64\n"
        "B: 4 kernels\n"
        "  debian/12/x86_64/ 6.1.0-9-amd64 to 6.1.0-50-amd64 (4)\n"
        "\n"
        "p.one on A: fails\n"
        "  ./src/p.bpf.c:7, 9: struct a.b is not in this kernel: guard it with x(struct a, b), "
        "or remove these kernels from the option `kernels`\n"
        "  no function f\n"
        "p.two on A, B: needs-kernel-btf\n"
        '  SEC("fentry/f") needs the kernel\'s own BTF\n'
        "\n"
        "2 programs on 6 kernels: 4 loads, 6 needs-kernel-btf, 2 fails\n"
        f"Not checked: {NOT_CHECKED}.\n"
    )


def test_a_narrow_table_has_short_words_and_comes_in_pieces() -> None:
    narrow = render_text(REPORT, width=14).splitlines()
    assert narrow[:3] == ["program  A", "p.one    FAIL", "p.two    btf"]
    assert "program  B" in narrow
    assert max(len(line) for line in narrow[: narrow.index("A: 2 kernels")]) <= 14


def test_colour_changes_nothing_else() -> None:
    coloured = render_text(REPORT, colour=True)
    assert "\x1b[31mfails" in coloured
    plain = coloured
    for sequence in ("\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[0m"):
        plain = plain.replace(sequence, "")
    assert plain == render_text(REPORT)


def test_objects_of_two_architectures_make_two_tables() -> None:
    other = ProgramVerdict("arm64/q.bpf.o", "three", Verdict.LOADS, ())
    both = report(old=(program("one"),), new=(other,))
    text = render_text(both)
    assert "program  A\np.one    loads\n" in text
    assert "program  B\nq.three  loads\n" in text


def test_failures_name_program_kernels_line_and_remedy() -> None:
    assert render_failures(REPORT) == (
        "p.one fails on 2 of 6 kernels:\n"
        "  debian/11/x86_64/ 5.10.0-30-amd64, 5.10.0-32-amd64\n"
        "  ./src/p.bpf.c:7, 9: struct a.b is not in this kernel: guard it with x(struct a, b), "
        "or remove these kernels from the option `kernels`\n"
    )
    one = Report(REPORT.kernels[:1])
    assert f"or remove {OLD[0]} from the option `kernels`" in render_failures(one)


def test_an_optional_program_is_no_failure() -> None:
    optional = report(old=(program("one", MISSING, is_optional=True),), new=(program("one", is_optional=True),))
    assert render_failures(optional) == ""
    assert optional.exit_status == 0
    assert REPORT.exit_status == 1
    assert "p.one (optional)" in render_text(optional)
    assert render_summary(optional).endswith("4 loads, 2 fails (2 of them optional)\n")


def test_nothing_to_check() -> None:
    assert "nothing to check: the option `kernels` names none" in render_text(Report(()))
    assert "nothing to check: no object has a program" in render_text(report(old=(), new=()))
    assert render_summary(Report(())) == "0 programs on 0 kernels\n"


def test_json() -> None:
    document = json.loads(render_json(Report(REPORT.kernels[:1])))
    assert document == {
        "kernels": [
            {
                "kernel": OLD[0],
                "programs": [
                    {
                        "object": "src/p.bpf.o",
                        "program": "one",
                        "verdict": "fails",
                        "reasons": [
                            {
                                "kind": "co-re-missing",
                                "message": "struct a.b is not in this kernel: guard it with x(struct a, b), "
                                f"or remove {OLD[0]} from the option `kernels`",
                                "source": f"./src/p.bpf.c:{line}",
                            }
                            for line in (7, 9)
                        ]
                        + [{"kind": "attach-target-unknown", "message": "no function f", "source": ""}],
                    },
                    {
                        "object": "src/p.bpf.o",
                        "program": "two",
                        "verdict": "needs-kernel-btf",
                        "reasons": [
                            {"kind": "kernel-btf", "message": OWN_BTF.what, "source": ""},
                        ],
                    },
                ],
            }
        ],
        "not_checked": NOT_CHECKED,
    }


@pytest.mark.parametrize("count", [1, 26, 27, 60])
def test_every_group_of_kernels_has_a_letter_of_its_own(count: int) -> None:
    kernels = [
        KernelReport(
            Kernel.parse(f"d/1/x86_64/{number}.0"),
            (program("one", Reason(ReasonKind.KERNEL_BTF, Weight.NOTE, str(number))),),
        )
        for number in range(count)
    ]
    lines = render_text(Report(tuple(kernels))).splitlines()
    letters = [line.split(":")[0] for line in lines if line.endswith(": 1 kernel")]
    assert len(letters) == len(set(letters)) == count
