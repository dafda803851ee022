"""Rows of the benchmarks' table. Input: figures. Output: the table as text and as JSON.

A module of rows has one function, `rows(quick)`, that measures and yields its rows one after another:

    def rows(quick: bool) -> Iterator[Row | Skipped]:
        ours, reference = interleaved(lambda: cpu_seconds([...]), lambda: cpu_seconds([...]), rounds=3 if quick else 9)
        yield Row(what="vmlinux.h, whole", reference="bpftool btf dump", ours=ours, theirs=reference, unit="s",
                  target=ratio_at_most(3))

What a machine cannot measure is `Skipped(what=..., reason=...)`. The module's name stands in `__main__.MODULES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum


class Of(Enum):
    """What a target is about."""

    RATIO = "ratio"
    """Our figure divided by the reference's."""
    DIFFERENCE = "difference"
    """Our figure less the reference's."""
    OURS = "ours"
    """Our figure alone."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be reached."""

    of: Of
    value: float
    at_least: bool

    def is_reached(self, row: Row) -> bool:
        figure = {Of.RATIO: row.ratio, Of.DIFFERENCE: row.ours - row.theirs, Of.OURS: row.ours}[self.of]
        return figure >= self.value if self.at_least else figure <= self.value

    def text(self, unit: str) -> str:
        bound = "≥" if self.at_least else "≤"
        if self.of is Of.RATIO:
            return f"{bound} {self.value:g}"
        return f"{bound} {'+' if self.of is Of.DIFFERENCE else ''}{figure(self.value, unit)}"


def ratio_at_most(value: float) -> Target:
    return Target(of=Of.RATIO, value=value, at_least=False)


def ratio_at_least(value: float) -> Target:
    return Target(of=Of.RATIO, value=value, at_least=True)


def more_by_at_most(value: float) -> Target:
    """In the row's unit."""
    return Target(of=Of.DIFFERENCE, value=value, at_least=False)


def ours_at_most(value: float) -> Target:
    """In the row's unit, whatever the reference needs."""
    return Target(of=Of.OURS, value=value, at_least=False)


def ours_at_least(value: float) -> Target:
    """In the row's unit, whatever the reference reaches."""
    return Target(of=Of.OURS, value=value, at_least=True)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Two figures for the same work in the same run."""

    what: str
    reference: str
    """What it is measured against: a command, or what it does, exactly."""
    ours: float
    theirs: float
    """The reference's figure, above 0."""
    unit: str
    """`s` (seconds, CPU time unless `note` says otherwise), `bytes`, or a rate such as `events/s`."""
    target: Target | None = None
    note: str = ""
    """How it was measured, where that is not plain from the rest."""

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def reached(self) -> bool | None:
        """None where there is no target."""
        return None if self.target is None else self.target.is_reached(self)


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """What could not be measured here, and why."""

    what: str
    reason: str


def figure(value: float, unit: str) -> str:
    """A figure with its unit, three digits that matter: `1.25 ms`, `2.61 M events/s`, `70,772 bytes`."""
    if unit == "s":
        for scale, name in ((1, "s"), (1e-3, "ms")):
            if abs(value) >= scale:
                return f"{_digits(value / scale)} {name}"
        return f"{_digits(value / 1e-6)} µs"
    if unit == "bytes" and value >= 1000:
        return f"{value:,.0f} bytes"
    for scale, name in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= scale:
            return f"{_digits(value / scale)}{name} {unit}"
    return f"{_digits(value)} {unit}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_json(rows: Iterable[Row | Skipped]) -> list[dict[str, object]]:
    """One object per row; the keys `skipped` or `ours`, `theirs`, `ratio`, ... tell the two kinds apart."""
    result: list[dict[str, object]] = []
    for row in rows:
        if isinstance(row, Skipped):
            result.append({"what": row.what, "skipped": row.reason})
            continue
        result.append(
            {
                "what": row.what,
                "reference": row.reference,
                "ours": row.ours,
                "theirs": row.theirs,
                "unit": row.unit,
                "ratio": row.ratio,
                "target": row.target and row.target.text(row.unit),
                "reached": row.reached,
                "note": row.note,
            }
        )
    return result


HEADINGS = ("what", "reference", "ours", "reference's", "ratio", "target", "reached")


def cells(row: Row) -> tuple[str, ...]:
    """A row's texts, under `HEADINGS`."""
    target = "" if row.target is None else row.target.text(row.unit)
    reached = {None: "", True: "yes", False: "no"}[row.reached]
    ours, theirs = figure(row.ours, row.unit), figure(row.theirs, row.unit)
    return row.what, row.reference, ours, theirs, f"{row.ratio:.3g}", target, reached


def as_text(rows: Sequence[Row | Skipped]) -> Iterator[str]:
    """The lines of the table, with notes and what was skipped below it."""
    lines = [HEADINGS, *(cells(row) for row in rows if isinstance(row, Row))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    for number, line in enumerate(lines):
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)
    yield from dict.fromkeys(f"{row.what}: {row.note}" for row in rows if isinstance(row, Row) and row.note)
    for row in rows:
        if isinstance(row, Skipped):
            yield f"{row.what}: skipped: {row.reason}"
