"""`Report` -> text for people, JSON for programs, and the message of a build that fails over it.

Input: a `Report`. Output: text. Kernels with the same verdicts and reasons are shown together. Plain text; with
`colour`, verdicts are coloured by ANSI sequences.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.portability.verdicts import KernelReport, ProgramVerdict, Reason, Report, Verdict, needs_no_last_resort
from hatch_bpf.runtime.printable import printable

_COLOURS = {
    Verdict.LOADS: "32",
    Verdict.NEEDS_KERNEL_BTF: "36",
    Verdict.CONDITIONAL: "33",
    Verdict.FAILS: "31",
}
SHORT = {
    Verdict.LOADS: "ok",
    Verdict.NEEDS_KERNEL_BTF: "btf",
    Verdict.CONDITIONAL: "cond",
    Verdict.FAILS: "FAIL",
}
"""Verdicts where there is no room for the words."""
_KERNELS_NAMED = 3
"""Kernels of one folder that are named one by one; of more, the first and the last are."""


@dataclass(frozen=True)
class Group:
    """Kernels on which every program has the same verdict for the same reasons."""

    label: str
    kernels: tuple[Kernel, ...]
    programs: tuple[ProgramVerdict, ...]


def render_json(report: Report) -> str:
    """The whole report, kernel by kernel."""
    document = {
        "kernels": [
            {
                "kernel": str(kernel.kernel),
                "programs": [_program_json(program, kernel.kernel) for program in kernel.programs],
            }
            for kernel in report.kernels
        ]
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def render_text(report: Report, *, width: int = 100, colour: bool = False) -> str:
    """A table of programs and groups of kernels, the groups' kernels, and the reasons behind every verdict."""
    groups = group_kernels(report.kernels)
    if not groups:
        return (
            "There is nothing to check: the option kernels names none. `hatch-bpf check --match host` takes this one.\n"
        )
    if not any(group.programs for group in groups):
        return "There is nothing to check: no object has a program.\n"
    parts = []
    for sharing in by_programs(groups):
        parts += [_table(sharing, width=width, colour=colour), _legend(sharing, width=width)]
    parts += [_details(groups, colour=colour), render_summary(report)]
    return "\n".join(part for part in parts if part)


def render_summary(report: Report) -> str:
    """One line: how many program and kernel pairs have which verdict."""
    pairs = [program for kernel in report.kernels for program in kernel.programs]
    counts = {verdict: sum(program.verdict is verdict for program in pairs) for verdict in Verdict}
    optional = sum(program.verdict is Verdict.FAILS and program.is_optional for program in pairs)
    told = [f"{count} {verdict.value}" for verdict, count in counts.items() if count]
    kernels = counted(len(report.kernels), "kernel")
    line = f"{counted(len(pairs), 'pair')} of a program and one of {kernels}: {', '.join(told) or 'none'}"
    spared = sum(bool(program.stand_in) for program in pairs)
    needless = [f"{optional} of them optional"] * bool(optional) + [f"{spared} with an alternative"] * bool(spared)
    return f"{line} ({', '.join(needless)})\n" if needless else f"{line}\n"


def render_failures(report: Report) -> str:
    """What stops a build: for every program that fails and has to load, where, why, and what to do."""
    lines = []
    for group in group_kernels(report.kernels):
        for program in group.programs:
            if not program.breaks_build:
                continue
            others = f", like the others of {program.group}," if program.group else ""
            lines.append(f"{label(program)}{others} fails on {', '.join(map(str, group.kernels))}:")
            lines += [f"  {line}" for line in _reason_lines(program.reasons, group.kernels, heaviest_only=True)]
    return "\n".join(lines) + "\n" if lines else ""


def _program_json(program: ProgramVerdict, kernel: Kernel) -> dict[str, object]:
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
                "message": _message(reason, program.reasons, str(kernel)),
                "source": reason.source,
            }
            for reason in program.reasons
        ],
    }


def group_kernels(kernels: Iterable[KernelReport]) -> list[Group]:
    """Kernels with the same outcome together, in the order of their first ones."""
    by_outcome: dict[tuple[ProgramVerdict, ...], list[Kernel]] = {}
    for kernel in kernels:
        by_outcome.setdefault(kernel.programs, []).append(kernel.kernel)
    return [
        Group(_letter(index), tuple(sorted(members)), programs)
        for index, (programs, members) in enumerate(by_outcome.items())
    ]


def by_programs(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that can share a table: objects of another architecture may hold other programs."""
    sharing: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        sharing.setdefault(tuple(map(label, group.programs)), []).append(group)
    return list(sharing.values())


def _letter(index: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def file_stem(path: str) -> str:
    """`tcprtt` of `build/tcprtt.bpf.o`: what an object is called for short."""
    return path.rsplit("/", 1)[-1].removesuffix(".o").removesuffix(".bpf")


def label(program: ProgramVerdict) -> str:
    """`tcprtt.bpf_sockops_cb`: the object's short name, and the program's."""
    return printable(f"{file_stem(program.object)}.{program.program}")


def role(program: ProgramVerdict) -> str:
    """What an optional program or one of several is marked with."""
    return " (optional)" if program.is_optional else f" (one of {program.group})" if program.group else ""


def _table(groups: Sequence[Group], *, width: int, colour: bool) -> str:
    """Programs down, groups across; in pieces if there are more groups than fit."""
    names = [label(program) + role(program) for program in groups[0].programs]
    left = max(len("program"), *map(len, names))
    words = {verdict: verdict.value for verdict in Verdict}
    column = max(len(words[program.verdict]) for group in groups for program in group.programs)
    if left + (column + 2) * len(groups) > width:
        words, column = SHORT, max(map(len, [*SHORT.values(), *(group.label for group in groups)]))
    per_piece = max(1, (width - left) // (column + 2))
    pieces = []
    for start in range(0, len(groups), per_piece):
        shown = groups[start : start + per_piece]
        lines = [_row("program", left, [group.label.ljust(column) for group in shown])]
        for row, name in enumerate(names):
            verdicts = [group.programs[row].verdict for group in shown]
            cells = [_paint(words[found], found, colour) + " " * (column - len(words[found])) for found in verdicts]
            lines.append(_row(name, left, cells))
        pieces.append("\n".join(lines) + "\n")
    return "\n".join(pieces)


def _row(name: str, left: int, cells: Sequence[str]) -> str:
    return f"{name.ljust(left)}  {'  '.join(cells)}".rstrip()


def _paint(text: str, verdict: Verdict, colour: bool) -> str:
    return f"\x1b[{_COLOURS[verdict]}m{text}\x1b[0m" if colour else text


def _legend(groups: Sequence[Group], *, width: int) -> str:
    """Which kernels each letter stands for."""
    lines = []
    for group in groups:
        lines.append(f"{group.label}: {counted(len(group.kernels), 'kernel')}")
        lines += [f"  {line}" for line in kernel_lines(group, width=width)]
    return "\n".join(lines) + "\n"


def kernel_lines(group: Group, *, width: int) -> Iterable[str]:
    """The kernels of a group, a line for each folder of the archive."""
    for folder, members in groupby(group.kernels, lambda k: str(k).rsplit("/", 1)[0]):
        releases = [kernel.release for kernel in members]
        named = ", ".join(releases)
        if len(releases) > _KERNELS_NAMED or len(folder) + len(named) + 4 > width:
            named = f"{releases[0]} to {releases[-1]} ({len(releases)})" if len(releases) > 1 else releases[0]
        yield f"{folder}/ {named}"


@dataclass(frozen=True)
class Finding:
    """The reasons of a program's verdict, and the groups of kernels that share them."""

    program: str
    verdict: Verdict
    groups: tuple[Group, ...]
    lines: tuple[str, ...]


def findings(groups: Sequence[Group]) -> list[Finding]:
    """Each program's reasons, once for all the groups that share them; what fails first."""
    blocks: dict[tuple[str, Verdict, tuple[Reason, ...]], dict[str, Group]] = {}
    for group in groups:
        for program in group.programs:
            if program.reasons:
                # two packages may have programs of one name
                blocks.setdefault((label(program), program.verdict, program.reasons), {})[group.label] = group
    found = []
    for (name, verdict, reasons), sharing in sorted(blocks.items(), key=lambda item: _block_order(item[0])):
        kernels = [kernel for group in sharing.values() for kernel in group.kernels]
        found.append(Finding(name, verdict, tuple(sharing.values()), tuple(_reason_lines(reasons, kernels))))
    return found


def _details(groups: Sequence[Group], *, colour: bool) -> str:
    lines = []
    for finding in findings(groups):
        letters = ", ".join(group.label for group in finding.groups)
        lines.append(f"{finding.program} on {letters}: {_paint(finding.verdict.value, finding.verdict, colour)}")
        lines += [f"  {line}" for line in finding.lines]
    return "\n".join(lines) + "\n" if lines else ""


def _block_order(block: tuple[str, Verdict, tuple[Reason, ...]]) -> tuple[int, str]:
    """What fails first, then by name."""
    name, verdict, _ = block
    return -list(Verdict).index(verdict), name


def _reason_lines(
    reasons: Sequence[Reason], kernels: Sequence[Kernel], *, heaviest_only: bool = False
) -> Iterable[str]:
    """One line for each message, with all the places in the source that it is true of."""
    sources: dict[str, list[str]] = {}
    for reason in reasons:
        if heaviest_only and reason.weight < reasons[0].weight:
            break
        message = _message(reason, reasons, str(kernels[0]) if len(kernels) == 1 else "these kernels")
        sources.setdefault(message, []).append(reason.source)
    for message, places in sources.items():
        where = _places(places)
        yield printable(f"{where}: {message}" if where else message)


def _message(reason: Reason, among: Sequence[Reason], kernels: str) -> str:
    return reason.message if needs_no_last_resort(among) else reason.message_for(kernels)


def _places(sources: Iterable[str]) -> str:
    """`src/a.bpf.c:36, 38, 64`: lines of one file together."""
    lines: dict[str, list[str]] = {}
    for source in sources:
        file, _, line = source.rpartition(":")
        if file and line not in lines.setdefault(file, []):
            lines[file].append(line)
    return ", ".join(f"{file}:{', '.join(sorted(numbers, key=int))}" for file, numbers in lines.items())


def counted(number: int, noun: str) -> str:
    """`1 kernel`, `2 kernels`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
