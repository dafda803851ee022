"""`python -m benchmarks.plot [JSON [SVG]]`: what kernels cost by their number, as a picture for docs/kernel-matrix.md.

Input: `docs/scaling.json`, which `python -m benchmarks.scaling` writes: lists of equal length, `kernels` (how many,
going up), `cold_seconds`, `warm_seconds` and `bytes_per_kernel`. Output: `docs/scaling.svg`, with logarithmic axes, and
colors for light and dark backgrounds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

DOCS = Path(__file__).resolve().parents[1] / "docs"

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #3d444d; }
.title { font-weight: 600; }
.grid { stroke: #d1d9e0; }
.line { fill: none; stroke-width: 2; }
.first { stroke: #0969da; } .first-fill { fill: #0969da; }
.second { stroke: #bc4c00; } .second-fill { fill: #bc4c00; }
@media (prefers-color-scheme: dark) {
  text { fill: #d1d7e0; }
  .grid { stroke: #3d444d; }
  .first { stroke: #4493f8; } .first-fill { fill: #4493f8; }
  .second { stroke: #f0883e; } .second-fill { fill: #f0883e; }
}
"""
PANEL, HEIGHT, GAP = 330, 220, 150
LEFT, TOP, BOTTOM = 60, 40, 50


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis: values between two powers of ten, or ends, to places between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def decades(self) -> Iterator[float]:
        """The powers of ten on the axis."""
        exponent = math.ceil(math.log10(self.low) - 1e-9)
        while 10**exponent <= self.high * (1 + 1e-9):
            yield 10.0**exponent
            exponent += 1


@dataclass(frozen=True)
class Curve:
    """One line of a panel."""

    label: str
    style: str
    values: Sequence[float]


def panel(title: str, unit: str, kernels: Sequence[int], curves: Sequence[Curve], *, left: float) -> Iterator[str]:
    """The elements of one picture: grid, axes, lines with a dot for each measurement, labels where lines end."""
    every = [value for curve in curves for value in curve.values]
    low, high = 10 ** math.floor(math.log10(min(every))), 10 ** math.ceil(math.log10(max(every)))
    across = Scale(min(kernels), max(max(kernels), 10 * min(kernels)), left, left + PANEL)
    up = Scale(low, max(high, 10 * low), TOP + HEIGHT, TOP)
    yield text(left, TOP - 18, title, style="title")
    for value in up.decades():
        y = up.place(value)
        yield f'<path class="grid" d="M{left:.1f} {y:.1f}h{PANEL}"/>'
        yield text(left - 8, y + 4, number(value), anchor="end")
    ends = sorted({*across.decades(), float(across.high)})
    for value in ends:
        x = across.place(value)
        yield f'<path class="grid" d="M{x:.1f} {TOP}v{HEIGHT}"/>'
        # the last one needs the room of what would be right before it
        if value == ends[-1] or ends[-1] / value > 2:
            yield text(x, TOP + HEIGHT + 20, number(value), anchor="middle")
    yield text(left + PANEL / 2, TOP + HEIGHT + 40, "kernels", anchor="middle")
    for curve in curves:
        points = [(across.place(x), up.place(y)) for x, y in zip(kernels, curve.values, strict=True)]
        yield f'<path class="line {curve.style}" d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in points)}"/>'
        for (x, y), count, value in zip(points, kernels, curve.values, strict=True):
            what = escape(f"{count:,} kernels: {number(value)} {unit}")
            yield f'<circle class="{curve.style}-fill" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{what}</title></circle>'
        x, y = points[-1]
        yield text(
            x + 8, y + 4, f"{curve.label} {number(curve.values[-1])} {unit}".strip(), style=f"{curve.style}-fill"
        )


def text(x: float, y: float, content: str, *, anchor: str = "start", style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(content)}</text>'


def number(value: float) -> str:
    """Two digits that matter, and thousands apart: `0.25`, `12`, `4,000`."""
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def svg(data: Mapping[str, Sequence[float]]) -> str:
    """The picture of what `scaling.py` measured."""
    kernels = [int(count) for count in data["kernels"]]
    seconds = [Curve("cold", "first", data["cold_seconds"]), Curve("warm", "second", data["warm_seconds"])]
    bytes_each = [Curve("", "first", data["bytes_per_kernel"])]
    second = LEFT + PANEL + GAP
    width, height = second + PANEL + 80, TOP + HEIGHT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<style>{STYLE}</style>",
        *panel("Seconds to build", "s", kernels, seconds, left=LEFT),
        *panel("Bytes in the wheel for each kernel", "bytes", kernels, bytes_each, left=second),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("json", type=Path, nargs="?", default=DOCS / "scaling.json")
    parser.add_argument("svg", type=Path, nargs="?", default=DOCS / "scaling.svg")
    options = parser.parse_args(arguments)
    options.svg.write_text(svg(json.loads(options.json.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
