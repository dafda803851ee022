"""What commands show, as tables for a terminal: what `report.py`, `inspection.py` and others say in plain text.

Input: a report, an object's document, kernels; and rich's console. Output: on that console.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hatch_bpf.cli.inspection import headline, tables
from hatch_bpf.portability import text as reports
from hatch_bpf.portability.verdicts import Report, Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from hatch_bpf.kernels.matrix import KernelSource

STYLES = {
    Verdict.LOADS: "green",
    Verdict.NEEDS_KERNEL_BTF: "cyan",
    Verdict.CONDITIONAL: "yellow",
    Verdict.FAILS: "bold red",
}
_AROUND = 3
"""Columns that a table puts around a cell."""


def show_table(console: Console, title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """One table; numbers are set to the right."""
    body = [list(row) for row in rows]
    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for place, name in enumerate(header):
        is_number = bool(body) and all(isinstance(row[place], int) for row in body)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in body:
        table.add_row(*(cell if isinstance(cell, Text) else _shown(cell) for cell in row))
    console.print(table)


def _shown(cell: object) -> Text:
    return Text(f"{cell:,}" if isinstance(cell, int) else str(cell))


def show_report(console: Console, report: Report) -> None:
    """The portability report: a table of verdicts, the kernels behind its letters, and the reasons."""
    groups = reports.group_kernels(report.kernels)
    if not groups or not any(group.programs for group in groups):
        console.print(reports.render_text(report), end="")
        return
    for sharing in reports.by_programs(groups):
        _show_verdicts(console, sharing)
        _show_kernels(console, sharing)
    for finding in reports.findings(groups):
        letters = ", ".join(group.label for group in finding.groups)
        console.print(Text.assemble((finding.program, "bold"), f" on {letters}: ", _verdict(finding.verdict)))
        for line in finding.lines:
            console.print(Padding(Text(line), (0, 0, 0, 2)))
    console.print()
    console.print(Text(reports.render_summary(report).rstrip(), style="bold"))


def _show_verdicts(console: Console, groups: Sequence[reports.Group]) -> None:
    """Programs down, groups across; in pieces if there are more groups than fit."""
    names = [reports.label(program) + reports.role(program) for program in groups[0].programs]
    left = max(len("program"), *map(len, names)) + _AROUND
    words = {verdict: verdict.value for verdict in Verdict}
    column = max(len(words[program.verdict]) for group in groups for program in group.programs) + _AROUND
    if left + column * len(groups) > console.width:
        words, column = reports.SHORT, max(map(len, [*reports.SHORT.values(), groups[-1].label])) + _AROUND
    per_piece = max(1, (console.width - left) // column)
    for start in range(0, len(groups), per_piece):
        shown = groups[start : start + per_piece]
        rows = []
        for row, name in enumerate(names):
            verdicts = [group.programs[row].verdict for group in shown]
            rows.append([name, *(_verdict(found, words[found]) for found in verdicts)])
        show_table(console, "", ["program", *(group.label for group in shown)], rows)


def _verdict(verdict: Verdict, word: str = "") -> Text:
    return Text(word or verdict.value, style=STYLES[verdict])


def _show_kernels(console: Console, groups: Sequence[reports.Group]) -> None:
    rows = []
    for group in groups:
        for place, line in enumerate(reports.kernel_lines(group, width=console.width - 20)):
            rows.append(["" if place else group.label, "" if place else str(len(group.kernels)), line])
    show_table(console, "", ["", "kernels", "which"], rows)


def show_inspection(console: Console, document: dict[str, Any]) -> None:
    """What is in an object, a table for each kind of thing."""
    console.print(Text(headline(document), style="bold"))
    for title, header, rows in tables(document):
        if rows:
            show_table(console, title, header, rows)


def show_kernels(console: Console, sources: Sequence[KernelSource]) -> None:
    """Kernels, with where their BTF is, and how large its file is."""
    rows = []
    for source in sources:
        kernel = source.kernel
        size = source.path.stat().st_size if source.path.exists() else "not downloaded"
        rows.append([kernel.distro or "-", kernel.version or "-", kernel.arch, kernel.release, size])
    show_table(console, "", ["distro", "version", "arch", "release", "bytes of BTF, as packed"], rows)
    console.print(Text(reports.counted(len(rows), "kernel"), style="bold"))
