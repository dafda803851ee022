"""Tables for a terminal, which show what commands otherwise print as plain text.

Input: a report, an object's document, kernels; and rich's console. Output: on that console.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hatch_bpf.cli.inspection import headline, tables
from hatch_bpf.portability.report import LOOKS, NOT_CHECKED, KernelGroup, ReportedProgram, counted, model_of
from hatch_bpf.portability.text import fit_table, label, labelled, reason_line
from hatch_bpf.portability.verdicts import Report, Verdict
from hatch_bpf.runtime.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from hatch_bpf.kernels.identity import Kernel
    from hatch_bpf.kernels.images import ImageFile
    from hatch_bpf.kernels.matrix import KernelSource

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
    model = model_of(report)
    if model.nothing:
        console.print(Text(model.nothing))
        return
    for programs, groups in model.tables():
        _show_verdicts(console, programs, groups)
        _show_kernels(console, groups)
    for program, block in model.blocks:
        where = f" on {model.groups_of(block)}: "
        console.print(Text.assemble((label(program), "bold"), where, _verdict(block.verdict)))
        for reason in block.reasons:
            console.print(Padding(Text(reason_line(reason)), (0, 0, 0, 2)))
    console.print()
    console.print(Text(model.summary, style="bold"))
    console.print(Text(f"Not checked: {NOT_CHECKED}.", style="dim"))


def _show_verdicts(console: Console, programs: Sequence[ReportedProgram], groups: Sequence[KernelGroup]) -> None:
    """Programs down, groups across; in pieces if there are more groups than fit."""
    names = [labelled(program) for program in programs]
    words, _, pieces = fit_table(names, groups, width=console.width - _AROUND, gap=_AROUND)
    for shown in pieces:
        rows = []
        for program, name in zip(programs, names, strict=True):
            verdicts = [group.verdicts[program.key] for group in shown]
            rows.append([name, *(_verdict(found, words[found]) for found in verdicts)])
        show_table(console, "", ["program", *(group.label for group in shown)], rows)


def _verdict(verdict: Verdict, word: str = "") -> Text:
    return Text(word or verdict.value, style=LOOKS[verdict].colour)


def _show_kernels(console: Console, groups: Sequence[KernelGroup]) -> None:
    rows = []
    for group in groups:
        for place, ranges in enumerate(group.ranges):
            head = ["", ""] if place else [group.label, str(len(group.kernels))]
            rows.append([*head, printable(str(ranges))])
    show_table(console, "", ["", "kernels", "which"], rows)


def show_inspection(console: Console, document: dict[str, Any]) -> None:
    """What is in an object, a table for each kind of thing."""
    console.print(Text(headline(document), style="bold"))
    for title, header, rows in tables(document):
        if rows:
            show_table(console, title, header, rows)


def show_kernels(console: Console, sources: Sequence[KernelSource], images: Mapping[Kernel, ImageFile | None]) -> None:
    """Kernels, with how large the file of their BTF is, and whether they have an image."""
    rows = []
    for source in sources:
        size = source.path.stat().st_size if source.path.exists() else "not downloaded"
        image = "yes" if images[source.kernel] else ""
        rows.append([*str(source.kernel).split("/"), size, image])
    show_table(console, "", ["distro", "version", "arch", "release", "bytes of BTF, as packed", "image"], rows)
    console.print(Text(counted(len(rows), "kernel"), style="bold"))
