"""`Report` -> text for people, JSON for programs, and the message of a build that fails over it.

Input: a `Report`. Output: text, laid out from the model of `report.py`. Plain text; with `colour`, ANSI sequences
colour the verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.portability.report import (
    LOOKS,
    NOT_CHECKED,
    Common,
    KernelGroup,
    ReportedProgram,
    ReportedReason,
    ReportModel,
    common,
    counted,
    model_of,
    remedy_for,
)
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Report, Verdict
from hatch_bpf.runtime.printable import printable


def render_json(report: Report) -> str:
    """The whole report, kernel by kernel."""
    on_kernels: dict[tuple[str, str], list[ProgramVerdict]] = {}
    for kernel in report.kernels:
        for program in kernel.programs:
            on_kernels.setdefault((program.object, program.program), []).append(program)
    in_common = {key: common(found) for key, found in on_kernels.items()}
    document = {
        "kernels": [
            {
                "kernel": str(kernel.kernel),
                "programs": [
                    _program_json(program, kernel.kernel, in_common[program.object, program.program])
                    for program in kernel.programs
                ],
            }
            for kernel in report.kernels
        ],
        "not_checked": NOT_CHECKED,
    }
    return json.dumps(document, indent=2) + "\n"


def render_text(report: Report, *, width: int = 100, colour: bool = False) -> str:
    """A table of programs and groups of kernels, the groups' kernels, and the reasons behind every verdict."""
    model = model_of(report)
    if model.nothing:
        return f"{model.nothing}\n"
    parts = []
    for programs, groups in model.tables():
        parts += [_table(programs, groups, width=width, colour=colour), _legend(groups)]
    parts += [_details(model, colour=colour), f"{model.summary}\nNot checked: {NOT_CHECKED}.\n"]
    return "\n".join(part for part in parts if part)


def render_summary(report: Report) -> str:
    """One line: how many pairs of a program and a kernel have which verdict."""
    return f"{model_of(report).summary}\n"


def render_failures(report: Report) -> str:
    """What stops a build: for every program that has to work and does not, where, why, and what to do."""
    lines = []
    for program, block in model_of(report).blocks:
        if not block.breaks_build:
            continue
        others = f", like the others of {program.group}," if program.group else ""
        where = f"{len(block.kernels)} of {counted(len(program.verdicts), 'kernel')}"
        if len(block.kernels) == 1:
            where = printable(str(block.kernels[0]))
        does_what = "fails" if block.verdict is Verdict.FAILS else "cannot be attached"
        lines.append(f"{label(program)}{others} {does_what} on {where}:")
        if len(block.kernels) > 1:
            lines += [f"  {printable(str(ranges))}" for ranges in block.ranges]
        lines += [f"  {reason_line(reason)}" for reason in block.heaviest]
    return "\n".join(lines) + "\n" if lines else ""


def render_warnings(report: Report) -> str:
    """What is wrong with programs that load: a line for each fault that holds on any kernel."""
    lines = [
        f"warning: {label(program)}: {reason_line(reason)}"
        for program, block in model_of(report).blocks
        for reason in block.reasons
        if reason.kind is ReasonKind.POINTER_LOST
    ]
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def label(program: ReportedProgram) -> str:
    """`tcprtt.bpf_sockops_cb`: the object's short name, and the program's."""
    return printable(program.label)


def labelled(program: ReportedProgram) -> str:
    """The label, and what marks a program that may fail."""
    return f"{label(program)} ({printable(program.role)})" if program.role else label(program)


def reason_line(reason: ReportedReason) -> str:
    """`src/a.bpf.c:36: what is wrong: what to do`."""
    return printable(f"{reason.place}: {reason.message}" if reason.place else reason.message)


def _program_json(program: ProgramVerdict, kernel: Kernel, of_all: Common) -> dict[str, object]:
    remedy = partial(remedy_for, kernels=str(kernel), of_all=of_all, has_alternative=bool(program.stand_in))
    return {
        "object": program.object,
        "program": program.program,
        "verdict": program.verdict.value,
        **({"optional": True} if program.is_optional else {}),
        **({"group": program.group} if program.group else {}),
        **({"stand_in": program.stand_in} if program.stand_in else {}),
        "reasons": [
            {
                "kind": reason.kind.value,
                "message": replace(reason, remedy=remedy(reason)).message,
                "source": reason.source,
            }
            for reason in program.reasons
        ],
    }


def fit_table(
    names: Sequence[str], groups: Sequence[KernelGroup], *, width: int, gap: int
) -> tuple[Mapping[Verdict, str], int, list[Sequence[KernelGroup]]]:
    """How a table with names down and groups across fits into `width`, with `gap` between columns.

    The verdicts' words, short ones if it is narrow; the width of a column; and the groups of each piece of the table.
    """
    left = max(len("program"), *map(len, names))
    words = {verdict: verdict.value for verdict in Verdict}
    column = max(len(words[verdict]) for group in groups for verdict in group.verdicts.values())
    if left + (column + gap) * len(groups) > width:
        words = {verdict: look.short for verdict, look in LOOKS.items()}
        column = max(map(len, [*words.values(), *(group.label for group in groups)]))
    per_piece = max(1, (width - left) // (column + gap))
    return words, column, [groups[start : start + per_piece] for start in range(0, len(groups), per_piece)]


def _table(programs: Sequence[ReportedProgram], groups: Sequence[KernelGroup], *, width: int, colour: bool) -> str:
    """Programs down, groups across; in pieces if there are more groups than fit."""
    names = [labelled(program) for program in programs]
    left = max(len("program"), *map(len, names))
    words, column, pieces = fit_table(names, groups, width=width, gap=2)
    texts = []
    for shown in pieces:
        lines = [_row("program", left, [group.label.ljust(column) for group in shown])]
        for program, name in zip(programs, names, strict=True):
            verdicts = [group.verdicts[program.key] for group in shown]
            cells = [_paint(words[found], found, colour) + " " * (column - len(words[found])) for found in verdicts]
            lines.append(_row(name, left, cells))
        texts.append("\n".join(lines) + "\n")
    return "\n".join(texts)


def _row(name: str, left: int, cells: Sequence[str]) -> str:
    return f"{name.ljust(left)}  {'  '.join(cells)}".rstrip()


def _paint(text: str, verdict: Verdict, colour: bool) -> str:
    return f"\x1b[{LOOKS[verdict].ansi}m{text}\x1b[0m" if colour else text


def _legend(groups: Iterable[KernelGroup]) -> str:
    """Which kernels each letter means."""
    lines = []
    for group in groups:
        lines.append(f"{group.label}: {counted(len(group.kernels), 'kernel')}")
        lines += [f"  {printable(str(ranges))}" for ranges in group.ranges]
    return "\n".join(lines) + "\n"


def _details(model: ReportModel, *, colour: bool) -> str:
    lines = []
    for program, block in model.blocks:
        verdict = _paint(block.verdict.value, block.verdict, colour)
        lines.append(f"{label(program)} on {model.groups_of(block)}: {verdict}")
        lines += [f"  {reason_line(reason)}" for reason in block.reasons]
    return "\n".join(lines) + "\n" if lines else ""
