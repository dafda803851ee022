"""`python -m benchmarks.scaling [FILE]`: what kernels cost by their number, for `benchmarks.plot`.

Input: a BTF archive, whose kernels are taken under other names as often as it takes. Output: `docs/scaling.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from hatch_bpf.support.store import Store

from .engine import example_project, fit_all, objects_of, renamed
from .machine import ARCHIVE
from .measure import wall_of
from .plot import DOCS
from .wheel_bytes import growths

COUNTS = (1, 4, 16, 64, 256, 1024, 4000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument(
        "out", metavar="FILE", nargs="?", type=Path, default=DOCS / "scaling.json", help="where the figures go"
    )
    out = parser.parse_args().out
    cold, warm = [], []
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-bench-") as scratch:
        of = objects_of(example_project(Path(scratch)))
        for count in COUNTS:
            matrix, store = renamed(count), Store(Path(scratch, f"store-{count}"))
            cold.append(round(wall_of(lambda m=matrix, s=store: fit_all(m, of, s)), 3))  # type: ignore[misc]
            warm.append(round(wall_of(lambda m=matrix, s=store: fit_all(m, of, s)), 3))  # type: ignore[misc]
            print(f"{count:,} kernels: {cold[-1]} s, then {warm[-1]} s", file=sys.stderr)
    each = [round(size, 1) for size in growths(ARCHIVE, COUNTS)]
    table = {"kernels": COUNTS, "cold_seconds": cold, "warm_seconds": warm, "bytes_per_kernel": each}
    out.write_text(json.dumps(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
