"""`python -m benchmarks.memory COUNT`: the memory that looking at COUNT kernels takes.

Output: bytes, of this process or of the largest that it started, whichever is more.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path

from hatch_bpf.embed import pack
from hatch_bpf.fit import fit
from hatch_bpf.report import render_summary

from .engine import example_project, objects_of, renamed


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-bench-") as scratch:
        of = objects_of(example_project(Path(scratch)))
    fitted = fit(of, renamed(int(sys.argv[1])), minimizer="builtin", watch=lambda *_: None)
    pack(fitted.minimized)
    render_summary(fitted.report)
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(1024 * max(peaks))


if __name__ == "__main__":
    main()
