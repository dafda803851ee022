"""`python -m benchmarks.scaling [JSON]`: what kernels cost by their number, for `benchmarks.plot`.

Input: a BTF archive, whose kernels are taken under other names as often as it takes. Output: `docs/scaling.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from hatch_bpf.cache import Store

from .engine import example_project, fit_all, objects_of, renamed
from .machine import ARCHIVE
from .measure import wall_of
from .plot import DOCS
from .wheel_bytes import growths

COUNTS = (1, 4, 16, 64, 256, 1024, 4000)


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "scaling.json"
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
