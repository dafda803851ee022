"""`python -m benchmarks [NAME...] [--json FILE] [--quick]`: measure, and print the table."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from .table import Row, Skipped, as_json, as_text

MODULES = ("engine", "large_object", "wheel_bytes", "vmlinux", "runtime", "peers")
"""Modules of rows, in the order of the table."""


def measure(names: list[str], *, quick: bool) -> Iterator[Row | Skipped]:
    for name in names:
        yield from importlib.import_module(f"benchmarks.{name}").rows(quick)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"which rows: {', '.join(MODULES)}; all if none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it runs, not to judge by")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(MODULES))
    if unknown:
        parser.error(f"no rows are called {', '.join(unknown)}; there are {', '.join(MODULES)}")
    rows = []
    for row in measure(options.names or list(MODULES), quick=options.quick):
        print(f"measured: {row.what}", file=sys.stderr, flush=True)
        rows.append(row)
    print(f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}, {_python()}")
    for line in as_text(rows):
        print(line)
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": as_json(rows)}, indent=1) + "\n", encoding="utf-8")
    return 0


def _python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
