"""The model of the portability report: every fact that text, tables for a terminal and the page show.

Input: a `Report`. Output: a `ReportModel`: programs with their counts, groups of kernels, ranges of kernels, and
reasons with the kernels for which they hold. The renderers (`text.py`, `html.py`, `cli/tables.py`) lay these
out and work out nothing themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from hatch_bpf.kernels.identity import Kernel, natural
from hatch_bpf.portability.verdicts import ProgramVerdict, Reason, Report, Verdict, Weight

WORST_FIRST = tuple(reversed(Verdict))
MEANINGS = {
    Verdict.FAILS: "does not load",
    Verdict.CANNOT_ATTACH: "loads, but can never be attached where its section says",
    Verdict.CONDITIONAL: "depends on what the application sets, on the kernel's configuration or on libbpf's version",
    Verdict.NEEDS_KERNEL_BTF: "loads where the kernel exposes its own BTF; no embedded BTF helps",
    Verdict.LOADS: "loads, with the kernel's own BTF or an embedded one",
}


@dataclass(frozen=True)
class Look:
    """How a verdict is shown."""

    short: str
    """The word where there is no room for the verdict's own."""
    sign: str
    letter: str
    """Its class in the page's style sheet, which is short because every cell has one."""
    colour: str
    """In rich's words."""
    ansi: str
    """The same as a parameter of an ANSI sequence."""


LOOKS = {
    Verdict.LOADS: Look("ok", "✓", "l", "green", "32"),
    Verdict.NEEDS_KERNEL_BTF: Look("btf", "◆", "b", "cyan", "36"),
    Verdict.CONDITIONAL: Look("cond", "◐", "c", "yellow", "33"),
    Verdict.CANNOT_ATTACH: Look("NOATT", "⊘", "a", "bold magenta", "35"),
    Verdict.FAILS: Look("FAIL", "✕", "f", "bold red", "31"),
}
NOT_CHECKED = (
    "a program's own logic, and whether its type may call the helpers that it calls; BTF says neither, and hatch-bpf "
    "try asks the kernels"
)
"""What no verdict is about."""
_SHORT_RUN = 2
"""A run of so many kernels is listed in full; for a longer run, the first and the last kernel are named."""

ProgramKey = tuple[str, str, int]
"""Object, program, and a number: packages may have objects and programs of the same names."""


@dataclass(frozen=True)
class KernelRanges:
    """Kernels of one folder of the archive, with neighbours in the report as one range."""

    folder: str
    """`debian/12/x86_64`."""
    runs: tuple[str, ...]
    """`6.1.0-9`, or `6.1.0-9 to 6.1.0-12 (3)` for neighbours."""

    def __str__(self) -> str:
        return f"{self.folder}/ {', '.join(self.runs)}"


@dataclass(frozen=True)
class ReportedReason(Reason):
    """A reason with all the places in the source where it holds. Its remedy includes the last resort."""

    places: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Files, with line numbers."""

    @property
    def place(self) -> str:
        """`src/a.bpf.c:36, 38, 64`."""
        return ", ".join(f"{file}:{', '.join(lines)}" for file, lines in self.places)


@dataclass(frozen=True)
class ReasonBlock:
    """Why a program has one verdict on some kernels."""

    number: int
    """Counts the blocks of a report, from 1."""
    verdict: Verdict
    reasons: tuple[ReportedReason, ...]
    """The heaviest first."""
    kernels: tuple[Kernel, ...]
    ranges: tuple[KernelRanges, ...]
    breaks_build: bool

    @property
    def heaviest(self) -> tuple[ReportedReason, ...]:
        return tuple(reason for reason in self.reasons if reason.weight is self.reasons[0].weight)


@dataclass(frozen=True)
class ReportedProgram:
    """A program of the report."""

    key: ProgramKey
    is_optional: bool
    group: str
    """The group of alternatives it is in; empty for none."""
    verdicts: Mapping[Kernel, Verdict]
    """By kernel, in order, without kernels of architectures that it isn't built for."""
    blocks: tuple[ReasonBlock, ...]
    """The worst verdict first."""

    @property
    def path(self) -> str:
        return self.key[0]

    @property
    def object(self) -> str:
        """`tcprtt` for `build/tcprtt.bpf.o`."""
        return self.path.rsplit("/", 1)[-1].removesuffix(".o").removesuffix(".bpf")

    @property
    def name(self) -> str:
        return self.key[1]

    @property
    def label(self) -> str:
        return f"{self.object}.{self.name}"

    @property
    def role(self) -> str:
        """What marks a program that may fail."""
        return "optional" if self.is_optional else f"one of {self.group}" if self.group else ""

    @property
    def breaks_build(self) -> bool:
        return any(block.breaks_build for block in self.blocks)

    @property
    def counts(self) -> Mapping[Verdict, int]:
        """How many kernels have each verdict, the worst first."""
        return _counted(self.verdicts.values())


@dataclass(frozen=True)
class KernelGroup:
    """Kernels on which every program has the same verdict for the same reasons."""

    label: str
    kernels: tuple[Kernel, ...]
    ranges: tuple[KernelRanges, ...]
    verdicts: Mapping[ProgramKey, Verdict]


@dataclass(frozen=True)
class ReportModel:
    """The whole report."""

    kernels: tuple[Kernel, ...]
    """In order, each once."""
    programs: tuple[ReportedProgram, ...]
    """In the report's order, those of an object together."""
    groups: tuple[KernelGroup, ...]

    @property
    def counts(self) -> Mapping[Verdict, int]:
        """How many pairs of a program and a kernel have each verdict, the worst first."""
        return _counted(verdict for program in self.programs for verdict in program.verdicts.values())

    @property
    def blocks(self) -> list[tuple[ReportedProgram, ReasonBlock]]:
        """Every block with its program: the worst verdict first, then by name."""
        found = [(program, block) for program in self.programs for block in program.blocks]
        return sorted(found, key=lambda item: (WORST_FIRST.index(item[1].verdict), item[0].label))

    def groups_of(self, block: ReasonBlock) -> str:
        """`A, C`: the groups that a block's kernels make up."""
        kernels = frozenset(block.kernels)
        return ", ".join(group.label for group in self.groups if group.kernels[0] in kernels)

    @property
    def nothing(self) -> str:
        """Why there is nothing to show; empty where there is something."""
        if not self.kernels:
            return (
                "There is nothing to check: the option `kernels` names none. "
                "`hatch-bpf check --match host` takes this one."
            )
        return "" if self.programs else "There is nothing to check: no object has a program."

    @property
    def summary(self) -> str:
        """One line: `2 programs on 6 kernels: 4 loads, 6 needs-kernel-btf, 2 fails (2 of them optional)`."""
        line = f"{counted(len(self.programs), 'program')} on {counted(len(self.kernels), 'kernel')}"
        counts = {verdict: self.counts[verdict] for verdict in Verdict if self.counts[verdict]}
        if not counts:
            return line
        if len(counts) == 1:
            (verdict,) = counts
            words = verdict.value + " everywhere" * (counts[verdict] > 1)
        else:
            words = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items())
        failing = [(p, b) for p, b in self.blocks if b.verdict.is_failure and not b.breaks_build]
        optional = sum(len(block.kernels) for program, block in failing if program.is_optional)
        spared = sum(len(block.kernels) for program, block in failing if not program.is_optional)
        needless = [f"{optional} of them optional"] * bool(optional) + [f"{spared} with an alternative"] * bool(spared)
        return f"{line}: {words} ({', '.join(needless)})" if needless else f"{line}: {words}"

    def tables(self) -> list[tuple[tuple[ReportedProgram, ...], tuple[KernelGroup, ...]]]:
        """Groups that can share a table, with its rows: objects of another architecture may hold other programs."""
        sharing: dict[tuple[ProgramKey, ...], list[KernelGroup]] = {}
        for group in self.groups:
            sharing.setdefault(tuple(group.verdicts), []).append(group)
        by_key = {program.key: program for program in self.programs}
        return [(tuple(by_key[key] for key in keys), tuple(groups)) for keys, groups in sharing.items() if keys]


def model_of(report: Report) -> ReportModel:
    """Work out all that is shown of a report."""
    outcomes = _by_kernel(report)
    position = {kernel: index for index, kernel in enumerate(outcomes)}
    programs: list[ReportedProgram] = []
    number = 0
    for key in _keys(outcomes):
        found = {kernel: verdicts[key] for kernel, verdicts in outcomes.items() if key in verdicts}
        programs.append(_program(key, found, position, number))
        number += len(programs[-1].blocks)
    return ReportModel(tuple(outcomes), tuple(programs), _groups(programs, outcomes, position))


def counted(number: int, noun: str) -> str:
    """`1 kernel`, `2 kernels`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True)
class Common:
    """What a program has on all of its kernels."""

    reasons: frozenset[Reason]
    """Without their sources."""
    kernels: int

    def has(self, reason: Reason) -> bool:
        return replace(reason, source="") in self.reasons


def common(found: Iterable[ProgramVerdict]) -> Common:
    """What the verdicts of one program on several kernels have in common."""
    verdicts = list(found)
    shared = [frozenset(replace(reason, source="") for reason in one.reasons) for one in dict.fromkeys(verdicts)]
    return Common(frozenset.intersection(*shared) if shared else frozenset(), len(verdicts))


def remedy_for(reason: Reason, kernels: str, of_all: Common, *, has_alternative: bool) -> str:
    """What to do about a reason; `kernels` names those that it holds for.

    A name that no kernel has may be a typo of one that they have. The last resort of a program that fails, or cannot be
    attached, is to leave the kernels out, unless another program is used instead, or no kernel would be left.
    """
    is_everywhere = of_all.has(reason)
    is_hopeless = reason.on_any_kernel or (is_everywhere and of_all.kernels > 1)
    remedies = [f"did you mean {reason.nearest}?"] if reason.nearest and is_everywhere else []
    if reason.remedy:
        remedies.append(f"If not, {reason.remedy}" if remedies else reason.remedy)
    if reason.weight >= Weight.CANNOT_ATTACH and not (is_hopeless or has_alternative):
        last_resort = f"remove {kernels} from the option `kernels`"
        remedies = [f"{' '.join(remedies)}, or {last_resort}" if remedies else last_resort]
    return " ".join(remedies)


def _counted(verdicts: Iterable[Verdict]) -> Mapping[Verdict, int]:
    counts = Counter(verdicts)
    return {verdict: counts[verdict] for verdict in WORST_FIRST}


def _by_kernel(report: Report) -> dict[Kernel, dict[ProgramKey, ProgramVerdict]]:
    """Kernels in order, with their verdicts by program. A kernel that is listed for several packages is one."""
    outcomes: dict[Kernel, dict[ProgramKey, ProgramVerdict]] = {}
    for found in report.kernels:
        programs = outcomes.setdefault(found.kernel, {})
        for program in found.programs:
            nth = 0
            while (key := (program.object, program.program, nth)) in programs:
                nth += 1
            programs[key] = program
    return dict(sorted(outcomes.items(), key=lambda item: item[0]))


def _keys(outcomes: Mapping[Kernel, Mapping[ProgramKey, ProgramVerdict]]) -> list[ProgramKey]:
    """In the order of the report, but with an object's programs together, even those that some kernels lack."""
    objects: dict[tuple[str, int], list[ProgramKey]] = {}
    for key in dict.fromkeys(key for programs in outcomes.values() for key in programs):
        objects.setdefault((key[0], key[2]), []).append(key)
    return [key for of_object in objects.values() for key in of_object]


def _program(
    key: ProgramKey, found: Mapping[Kernel, ProgramVerdict], position: Mapping[Kernel, int], number: int
) -> ReportedProgram:
    shared: dict[tuple[Verdict, tuple[Reason, ...]], list[Kernel]] = {}
    for kernel, outcome in found.items():
        if outcome.reasons:
            shared.setdefault((outcome.verdict, outcome.reasons), []).append(kernel)
    of_all = common(found.values())
    blocks: list[ReasonBlock] = []
    for (verdict, _), kernels in sorted(shared.items(), key=lambda item: WORST_FIRST.index(item[0][0])):
        named = str(kernels[0]) if len(kernels) == 1 else "these kernels"
        blocks.append(
            ReasonBlock(
                number=number + len(blocks) + 1,
                verdict=verdict,
                reasons=tuple(_reasons(found[kernels[0]], named, of_all)),
                kernels=tuple(kernels),
                ranges=_ranges(kernels, position),
                breaks_build=found[kernels[0]].breaks_build,
            )
        )
    one = next(iter(found.values()))
    verdicts = {kernel: outcome.verdict for kernel, outcome in found.items()}
    return ReportedProgram(key, one.is_optional, one.group, verdicts, tuple(blocks))


def _reasons(found: ProgramVerdict, kernels: str, of_all: Common) -> Iterable[ReportedReason]:
    """Each reason once, with all its places."""
    places: dict[Reason, dict[str, list[str]]] = {}
    for reason in found.reasons:
        files = places.setdefault(replace(reason, source=""), {})
        file, _, line = reason.source.rpartition(":")
        if file and line not in files.setdefault(file, []):
            files[file].append(line)
    for reason, files in places.items():
        at = tuple((file, tuple(sorted(lines, key=natural))) for file, lines in files.items())
        remedy = remedy_for(reason, kernels, of_all, has_alternative=bool(found.stand_in))
        yield ReportedReason(reason.kind, reason.weight, reason.what, remedy, places=at)


def _groups(
    programs: Sequence[ReportedProgram],
    outcomes: Mapping[Kernel, Mapping[ProgramKey, ProgramVerdict]],
    position: Mapping[Kernel, int],
) -> tuple[KernelGroup, ...]:
    """Kernels with the same outcome together, in the order of each group's first kernel."""
    block_on = {program.key: {k: b.number for b in program.blocks for k in b.kernels} for program in programs}
    same: dict[tuple[tuple[ProgramKey, Verdict, int], ...], list[Kernel]] = {}
    for kernel, found in outcomes.items():
        outcome = tuple((key, verdict.verdict, block_on[key].get(kernel, 0)) for key, verdict in found.items())
        same.setdefault(outcome, []).append(kernel)
    return tuple(
        KernelGroup(
            _letter(index),
            tuple(kernels),
            _ranges(kernels, position),
            {key: verdict for key, verdict, _ in outcome},
        )
        for index, (outcome, kernels) in enumerate(same.items())
    )


def _letter(index: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _ranges(kernels: Sequence[Kernel], position: Mapping[Kernel, int]) -> tuple[KernelRanges, ...]:
    """Neighbours in the report together, so that no range holds a kernel that is not meant."""
    ranges = []
    for folder, members in groupby(kernels, lambda kernel: str(kernel).rpartition("/")[0]):
        # among neighbours, the position in the report grows as the number here does
        runs = groupby(enumerate(members), lambda item: position[item[1]] - item[0])
        names = (name for _, run in runs for name in _run([kernel for _, kernel in run]))
        ranges.append(KernelRanges(folder, tuple(names)))
    return tuple(ranges)


def _run(run: Sequence[Kernel]) -> Iterable[str]:
    if len(run) <= _SHORT_RUN:
        return [kernel.release for kernel in run]
    return [f"{run[0].release} to {run[-1].release} ({len(run)})"]
