"""`Report` -> one HTML page, through `templates/report.html.j2`, `report.css` and `report.js`.

Input: a `Report`. Output: the text of a page that needs nothing from elsewhere: no network, no font, no other file. It
is complete without JavaScript, which only adds filters and a quicker way to the reasons. Same report, same page.

Names come from objects and are not trusted. Jinja2 escapes them, what doesn't print is spelled out, and the page's
Content-Security-Policy runs no script but its own. Reasons are in the page once for all the kernels that share them.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from markupsafe import Markup

import hatch_bpf
from hatch_bpf.kernels.identity import UNKNOWN, Kernel
from hatch_bpf.portability.report import LOOKS, MEANINGS, NOT_CHECKED, WORST_FIRST, ReportedProgram, counted, model_of
from hatch_bpf.portability.trial import KernelTrial, ProgramTrial, Trial
from hatch_bpf.portability.trial_report import (
    command_state,
    disagreement_text,
    disagreements,
    said_and_happened,
    trial_label,
)
from hatch_bpf.portability.verdicts import Report, Verdict, Weight
from hatch_bpf.runtime.printable import printable
from hatch_bpf.support.templating import environment

TEMPLATE, STYLE, SCRIPT = "report.html.j2", "report.css", "report.js"
MANY_PROGRAMS = 8
"""With more, cells show only the verdict's sign, and programs' names stand upright."""
TOO_MANY_FOR_PAPER = 20
"""With more, the matrix is left out in print."""
MANY_KERNELS = 60
"""With more, the kernels of a distribution's version are folded away until they are asked for."""
LONG_LIST = 12
"""A longer list of programs is folded away."""

_WEIGHT_LETTERS = {weight: LOOKS[weight.verdict].letter for weight in Weight} | {Weight.NOTE: "n"}


@dataclass(frozen=True)
class Count:
    """How many cells of some part of the matrix have a verdict."""

    verdict: Verdict
    number: int
    of: int
    before: int = 0
    """Cells that a stacked bar shows to the left of these."""

    @property
    def percent(self) -> str:
        """Says in words where rounding would turn nearly all or nearly none into all or none."""
        rounded = round(100 * self.number / self.of)
        if self.number and not rounded:
            return "less than 1 %"
        return "more than 99 %" if rounded == 100 and self.number < self.of else f"{rounded} %"


@dataclass(frozen=True)
class Column:
    """A program, with the ids of its parts of the page."""

    id: str
    program: ReportedProgram
    counts: tuple[Count, ...]
    block_on: Mapping[Kernel, str]
    """Ids of the blocks of reasons, by kernel."""


@dataclass(frozen=True)
class Cell:
    """A program on a kernel; in the row of a release, the worst verdict of its kernels."""

    letter: str = ""
    """Empty where the program isn't built for the kernel's architecture."""
    word: str = ""
    block: str = ""
    """Id; empty where there is nothing to say."""
    number: int = 0
    """On how many kernels of a release the verdict is this bad; 0 if it is the same on all."""
    of: int = 0


@dataclass(frozen=True)
class ReleaseRows:
    """The kernels of one release of a distribution."""

    distro: str
    version: str
    rows: tuple[tuple[Kernel, tuple[Cell, ...]], ...]
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        return f"{self.distro or 'unknown distribution'} {self.version}".rstrip()

    @property
    def folder(self) -> str:
        return f"{self.distro or UNKNOWN}/{self.version or UNKNOWN}"


@dataclass(frozen=True)
class TriedRow:
    """A kernel that was booted."""

    trial: KernelTrial
    cells: tuple[Cell, ...]
    state: str
    """What is wrong with the guest, or what came of the command."""


@dataclass(frozen=True)
class Tried:
    """What happened on real kernels."""

    programs: tuple[str, ...]
    rows: tuple[TriedRow, ...]
    wrong: tuple[tuple[str, str], ...]
    """Programs and kernels whose verdict was wrong, with the text of a bug report."""
    not_tried: tuple[tuple[Kernel, str], ...]


def render_html(report: Report, *, project: str = "", trial: Trial | None = None) -> str:
    """The page, with the name and version of the project on it, and what happened if it was tried on real kernels. It
    can be written as UTF-8 whatever the names in the report."""
    model = model_of(report)
    columns = [_column(program, number) for number, program in enumerate(model.programs, 1)]
    env = environment(autoescape=True)
    env.finalize = _printable
    # a stylesheet and a script are no templates: they are put in as they are, and known by their hashes
    style, script = (_source(name) for name in (STYLE, SCRIPT))
    return env.get_template(TEMPLATE).render(
        version=hatch_bpf.__version__,
        project=project,
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        headline=_headline(model.programs),
        tried=_tried(trial) if trial else None,
        nothing=model.nothing,
        counts=_counts(model.counts),
        not_checked=NOT_CHECKED,
        columns=columns,
        worst_first=sorted(columns, key=lambda column: [-count.number for count in column.counts]),
        objects=len({program.path for program in model.programs}),
        releases=_releases(model.kernels, columns),
        kernels=len(model.kernels),
        archs=sorted({kernel.arch for kernel in model.kernels}),
        looks=LOOKS,
        meanings=MEANINGS,
        weight_letters=_WEIGHT_LETTERS,
        is_dense=len(columns) > MANY_PROGRAMS,
        is_too_wide=len(columns) > TOO_MANY_FOR_PAPER,
        is_folded=len(model.kernels) > MANY_KERNELS,
        is_long=len(columns) > LONG_LIST,
    )


def _tried(trial: Trial) -> Tried:
    labels = list(dict.fromkeys(trial_label(program) for kernel in trial.kernels for program in kernel.programs))
    rows = []
    for kernel in trial.kernels:
        by_label = {trial_label(program): program for program in kernel.programs}
        cells = tuple(_tried_cell(by_label.get(label)) for label in labels)
        rows.append(TriedRow(kernel, cells, kernel.fault or command_state(kernel.command)))
    wrong = [
        (f"{trial_label(program)} on {kernel.kernel}", disagreement_text(kernel, program, way))
        for kernel, program, way in disagreements(trial)
    ]
    return Tried(tuple(labels), tuple(rows), tuple(wrong), tuple(trial.not_tried.items()))


def _tried_cell(program: ProgramTrial | None) -> Cell:
    if program is None:
        return Cell()
    return Cell(LOOKS[Verdict.FAILS if program.breaks else Verdict.LOADS].letter, said_and_happened(program))


def _column(program: ReportedProgram, number: int) -> Column:
    block_on = {kernel: f"f{block.number}" for block in program.blocks for kernel in block.kernels}
    return Column(f"p{number}", program, _counts(program.counts), block_on)


def _counts(counts: Mapping[Verdict, int]) -> tuple[Count, ...]:
    total, before = sum(counts.values()), accumulate(counts.values(), initial=0)
    return tuple(Count(verdict, counts[verdict], total, start) for verdict, start in zip(counts, before, strict=False))


def _releases(kernels: Sequence[Kernel], columns: Sequence[Column]) -> list[ReleaseRows]:
    releases = []
    for (distro, version), members in groupby(kernels, lambda kernel: (kernel.distro, kernel.version)):
        of_release = list(members)
        rows = tuple((kernel, tuple(_cell(column, kernel) for column in columns)) for kernel in of_release)
        cells = tuple(_worst(column.program.verdicts, of_release) for column in columns)
        releases.append(ReleaseRows(distro, version, rows, cells))
    return releases


def _cell(column: Column, kernel: Kernel) -> Cell:
    verdict = column.program.verdicts.get(kernel)
    return Cell() if verdict is None else Cell(LOOKS[verdict].letter, verdict.value, column.block_on.get(kernel, ""))


def _worst(verdicts: Mapping[Kernel, Verdict], kernels: Sequence[Kernel]) -> Cell:
    found = [verdicts[kernel] for kernel in kernels if kernel in verdicts]
    if not found:
        return Cell()
    worst = min(found, key=WORST_FIRST.index)
    number = found.count(worst)
    return Cell(LOOKS[worst].letter, worst.value, number=0 if number == len(found) else number, of=len(found))


def _headline(programs: Sequence[ReportedProgram]) -> str:
    breaking = ([block.verdict for block in program.blocks if block.breaks_build] for program in programs)
    failing = Counter(min(verdicts, key=WORST_FIRST.index) for verdicts in breaking if verdicts)
    fail, cannot_attach = failing[Verdict.FAILS], failing[Verdict.CANNOT_ATTACH]
    if fail or cannot_attach:
        words = [f"{counted(fail, 'program')} fail{'s' * (fail == 1)}"] if fail else []
        words += [f"{counted(cannot_attach, 'program')} cannot be attached"] if cannot_attach else []
        return f"{' and '.join(words)} on at least one kernel"
    if all(verdict is Verdict.LOADS for program in programs for verdict in program.verdicts.values()):
        return "Every program loads on every kernel"
    needless = [program for program in programs if any(verdict.is_failure for verdict in program.verdicts.values())]
    if not needless:
        return "No program fails on any kernel"
    others = "" if all(program.is_optional for program in needless) else " and those with an alternative"
    return f"No program fails on any kernel but optional ones{others}"


def _printable(value: object) -> object:
    """What a template inserts, with unprintable characters spelled out."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _source(name: str) -> str:
    """The text of a file among the templates."""
    env = environment()
    assert env.loader is not None
    return env.loader.get_source(env, name)[0]


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
