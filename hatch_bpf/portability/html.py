"""`Report` -> one HTML page, through `templates/report.html.j2`, `report.css` and `report.js`.

Input: a `Report`. Output: the text of a page that needs nothing from elsewhere: no network, no font, no other file. It
is complete without JavaScript, which only adds filters and a quicker way to the reasons. Same report, same page.

Names come from objects and are not trusted. Jinja2 escapes them, what doesn't print is spelled out, and the page's
Content-Security-Policy runs no script but its own. Reasons are in the page once for all the kernels that share them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

import hatch_bpf
from hatch_bpf.kernels.identity import UNKNOWN, Kernel, natural
from hatch_bpf.portability.text import file_stem
from hatch_bpf.portability.verdicts import ProgramVerdict, Reason, Report, Verdict, Weight, needs_no_last_resort
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

_LETTERS = {Verdict.FAILS: "f", Verdict.CONDITIONAL: "c", Verdict.NEEDS_KERNEL_BTF: "b", Verdict.LOADS: "l"}
"""Classes of the style sheet, the worst verdict first. They are short because every cell has one."""
_SIGNS = {Verdict.FAILS: "✕", Verdict.CONDITIONAL: "◐", Verdict.NEEDS_KERNEL_BTF: "◆", Verdict.LOADS: "✓"}
_MEANINGS = {
    Verdict.FAILS: "does not load, or can never be attached",
    Verdict.CONDITIONAL: "depends on globals that the application sets, or on the kernel's configuration",
    Verdict.NEEDS_KERNEL_BTF: "loads where the kernel exposes its own BTF; no embedded BTF helps",
    Verdict.LOADS: "loads, with the kernel's own BTF or an embedded one",
}
_WEIGHT_LETTERS = {Weight.FAILS: "f", Weight.CONDITIONAL: "c", Weight.KERNEL_BTF: "b", Weight.NOTE: "n"}
_LAST_RESORT = "drop these kernels from the matrix"

ColumnKey = tuple[str, str, int]
"""Object, program, and which of several such of one kernel: packages may have objects of the same name."""


@dataclass(frozen=True)
class Count:
    """How many cells of some part of the matrix have a verdict."""

    verdict: Verdict
    number: int
    of: int
    before: int = 0
    """Cells that a stacked bar shows to the left of these."""

    @property
    def letter(self) -> str:
        return _LETTERS[self.verdict]

    @property
    def sign(self) -> str:
        return _SIGNS[self.verdict]

    @property
    def meaning(self) -> str:
        return _MEANINGS[self.verdict]

    @property
    def percent(self) -> str:
        """In words where rounding would say all or none of what is only nearly so."""
        rounded = round(100 * self.number / self.of)
        if self.number and not rounded:
            return "less than 1 %"
        return "more than 99 %" if rounded == 100 and self.number < self.of else f"{rounded} %"


@dataclass(frozen=True)
class Told:
    """A reason, with all the places in the source that it is true of."""

    letter: str
    kind: str
    what: str
    remedy: str
    places: tuple[tuple[str, str, str], ...]
    """Folder, file name, line numbers."""


@dataclass(frozen=True)
class Finding:
    """Why a program has one verdict on some kernels."""

    id: str
    verdict: Verdict
    reasons: tuple[Told, ...]
    kernels: int
    ranges: tuple[tuple[str, tuple[str, ...]], ...]
    """Folder, and its releases: `6.1.0-9`, or `6.1.0-9 to 6.1.0-12 (3)` for neighbours in the matrix."""

    @property
    def letter(self) -> str:
        return _LETTERS[self.verdict]

    @property
    def sign(self) -> str:
        return _SIGNS[self.verdict]


@dataclass(frozen=True)
class Column:
    """A program."""

    id: str
    object: str
    path: str
    program: str
    is_optional: bool
    group: str
    """Of alternatives, that it is in; empty for none."""
    breaks_build: bool
    counts: tuple[Count, ...]
    findings: tuple[Finding, ...]

    @property
    def kernels(self) -> int:
        return sum(count.number for count in self.counts)


@dataclass(frozen=True)
class Cell:
    """A program on a kernel; of a group of kernels, the worst of them."""

    letter: str = ""
    """Empty where the program isn't built for the kernel's architecture."""
    word: str = ""
    finding: str = ""
    """Id; empty where there is nothing to say."""
    number: int = 0
    """On how many of a group's kernels the verdict is so bad; 0 where it is the same on all."""
    of: int = 0


@dataclass(frozen=True)
class Row:
    kernel: Kernel
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """The kernels of one version of a distribution."""

    distro: str
    version: str
    rows: tuple[Row, ...]
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        return f"{self.distro or 'unknown distribution'} {self.version}".rstrip()

    @property
    def folder(self) -> str:
        return f"{self.distro or UNKNOWN}/{self.version or UNKNOWN}"


def render_html(report: Report) -> str:
    """The page. It can be written as UTF-8 whatever the names in the report."""
    outcomes = _by_kernel(report)
    keys = _columns(outcomes)
    columns, finding_ids = _describe(keys, outcomes)
    groups = _groups(keys, outcomes, finding_ids)
    env = environment(autoescape=True)
    env.finalize = _printable
    # a stylesheet and a script are no templates: they are put in as they are, and known by their hashes
    style, script = (_source(name) for name in (STYLE, SCRIPT))
    return env.get_template(TEMPLATE).render(
        version=hatch_bpf.__version__,
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        headline=_headline(columns),
        counts=_counts([verdict.verdict for found in outcomes.values() for verdict in found.values()]),
        columns=columns,
        worst_first=sorted(columns, key=lambda column: [-count.number for count in column.counts]),
        objects=len({key[0] for key in keys}),
        groups=groups,
        kernels=len(outcomes),
        archs=sorted({kernel.arch for kernel in outcomes}),
        is_dense=len(columns) > MANY_PROGRAMS,
        is_too_wide=len(columns) > TOO_MANY_FOR_PAPER,
        is_folded=len(outcomes) > MANY_KERNELS,
        is_long=len(columns) > LONG_LIST,
    )


def _by_kernel(report: Report) -> dict[Kernel, dict[ColumnKey, ProgramVerdict]]:
    """Kernels in order, with their verdicts by program; a kernel that comes twice, for two packages, is one."""
    outcomes: dict[Kernel, dict[ColumnKey, ProgramVerdict]] = {}
    for found in report.kernels:
        programs = outcomes.setdefault(found.kernel, {})
        for program in found.programs:
            nth = 0
            while (key := (program.object, program.program, nth)) in programs:
                nth += 1
            programs[key] = program
    return dict(sorted(outcomes.items(), key=lambda item: item[0]))


def _columns(outcomes: dict[Kernel, dict[ColumnKey, ProgramVerdict]]) -> tuple[ColumnKey, ...]:
    """In the order of the report, and those of an object together though not all kernels have them."""
    keys = dict.fromkeys(key for programs in outcomes.values() for key in programs)
    objects: dict[tuple[str, int], list[ColumnKey]] = {}
    for key in keys:
        objects.setdefault((key[0], key[2]), []).append(key)
    return tuple(key for of_object in objects.values() for key in of_object)


def _describe(
    keys: Sequence[ColumnKey], outcomes: dict[Kernel, dict[ColumnKey, ProgramVerdict]]
) -> tuple[tuple[Column, ...], dict[tuple[ColumnKey, Verdict, tuple[Reason, ...]], str]]:
    """The columns with their findings, and the findings' ids."""
    ids: dict[tuple[ColumnKey, Verdict, tuple[Reason, ...]], str] = {}
    columns: list[Column] = []
    position = {kernel: index for index, kernel in enumerate(outcomes)}
    for number, key in enumerate(keys, 1):
        shared: dict[tuple[Verdict, tuple[Reason, ...]], list[Kernel]] = {}
        verdicts = []
        is_optional = breaks_build = False
        group = ""
        for kernel, programs in outcomes.items():
            if (found := programs.get(key)) is None:
                continue
            verdicts.append(found.verdict)
            is_optional, group = found.is_optional, found.group
            breaks_build = breaks_build or found.breaks_build
            if found.reasons:
                shared.setdefault((found.verdict, found.reasons), []).append(kernel)
        findings = []
        for (verdict, reasons), kernels in sorted(shared.items(), key=lambda item: _severity(item[0][0])):
            name = ids[key, verdict, reasons] = f"f{len(ids) + 1}"
            ranges = tuple(_ranges(kernels, position))
            findings.append(Finding(name, verdict, tuple(_told(reasons)), len(kernels), ranges))
        counts = _counts(verdicts)
        columns.append(
            Column(
                f"p{number}",
                file_stem(key[0]),
                key[0],
                key[1],
                is_optional,
                group,
                breaks_build,
                counts,
                tuple(findings),
            )
        )
    return tuple(columns), ids


def _groups(
    keys: Sequence[ColumnKey],
    outcomes: dict[Kernel, dict[ColumnKey, ProgramVerdict]],
    ids: dict[tuple[ColumnKey, Verdict, tuple[Reason, ...]], str],
) -> list[Group]:
    groups = []
    for (distro, version), members in groupby(outcomes.items(), lambda item: (item[0].distro, item[0].version)):
        of_group = list(members)
        rows = tuple(
            Row(kernel, tuple(_cell(key, programs.get(key), ids) for key in keys)) for kernel, programs in of_group
        )
        cells = tuple(_summary([programs[key].verdict for _, programs in of_group if key in programs]) for key in keys)
        groups.append(Group(distro, version, rows, cells))
    return groups


def _cell(
    key: ColumnKey, found: ProgramVerdict | None, ids: dict[tuple[ColumnKey, Verdict, tuple[Reason, ...]], str]
) -> Cell:
    if found is None:
        return Cell()
    finding = ids[key, found.verdict, found.reasons] if found.reasons else ""
    return Cell(_LETTERS[found.verdict], found.verdict.value, finding)


def _summary(verdicts: Sequence[Verdict]) -> Cell:
    if not verdicts:
        return Cell()
    worst = min(verdicts, key=_severity)
    number = verdicts.count(worst)
    if number == len(verdicts):
        return Cell(_LETTERS[worst], worst.value)
    return Cell(_LETTERS[worst], worst.value, number=number, of=len(verdicts))


def _counts(verdicts: Sequence[Verdict]) -> tuple[Count, ...]:
    """Of every verdict, the worst first."""
    counts: list[Count] = []
    before = 0
    for verdict in _LETTERS:
        counts.append(Count(verdict, verdicts.count(verdict), len(verdicts), before))
        before += counts[-1].number
    return tuple(counts)


def _severity(verdict: Verdict) -> int:
    """The worst sorts first."""
    return list(_LETTERS).index(verdict)


def _headline(columns: Sequence[Column]) -> str:
    failing = sum(column.breaks_build for column in columns)
    if failing:
        return f"{failing} {'program fails' if failing == 1 else 'programs fail'} on at least one kernel"
    clean = all(count.verdict is Verdict.LOADS for column in columns for count in column.counts if count.number)
    if clean:
        return "Every program loads on every kernel"
    needless = [column for column in columns if column.counts[0].number]
    if not needless:
        return "No program fails on any kernel"
    others = "" if all(column.is_optional for column in needless) else " and those that another stands in for"
    return f"No program fails on any kernel but optional ones{others}"


def _told(reasons: Sequence[Reason]) -> Iterable[Told]:
    """Each message once."""
    places: dict[Reason, dict[str, list[str]]] = {}
    is_spared = needs_no_last_resort(reasons)
    for reason in reasons:
        without_source = Reason(reason.kind, reason.weight, reason.what, reason.remedy)
        files = places.setdefault(without_source, {})
        file, _, line = reason.source.rpartition(":")
        if file and line not in files.setdefault(file, []):
            files[file].append(line)
    for reason, files in places.items():
        remedies = [reason.remedy, _LAST_RESORT if reason.weight is Weight.FAILS and not is_spared else ""]
        yield Told(
            _WEIGHT_LETTERS[reason.weight],
            reason.kind.value,
            reason.what,
            ", or ".join(filter(None, remedies)),
            tuple(_place(file, sorted(lines, key=natural)) for file, lines in files.items()),
        )


def _place(file: str, lines: Sequence[str]) -> tuple[str, str, str]:
    folder, slash, name = file.rpartition("/")
    return folder + slash, name, ", ".join(lines)


def _ranges(kernels: Sequence[Kernel], position: dict[Kernel, int]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Kernels that follow each other in the matrix are told by the first and the last."""
    for folder, members in groupby(kernels, lambda kernel: str(kernel).rpartition("/")[0]):
        runs: list[list[Kernel]] = []
        for kernel in members:
            if runs and position[kernel] == position[runs[-1][-1]] + 1:
                runs[-1].append(kernel)
            else:
                runs.append([kernel])
        yield folder, tuple(_run(run) for run in runs)


def _run(run: Sequence[Kernel]) -> str:
    return run[0].release if len(run) == 1 else f"{run[0].release} to {run[-1].release} ({len(run)})"


def _printable(value: object) -> object:
    """What a template puts in, as it may be shown."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _source(name: str) -> str:
    """A file among the templates, as it is."""
    env = environment()
    assert env.loader is not None
    return env.loader.get_source(env, name)[0]


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
