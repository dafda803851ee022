"""`python -m benchmarks.memory COUNT`: the memory that looking at COUNT kernels takes.

Output: bytes, of this process or of the largest that it started, whichever is more.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path

from hatch_bpf.per_kernel import fit
from hatch_bpf.portability.text import render_summary
from hatch_bpf.support.context import Context
from hatch_bpf.wheel.embedded_btfs import pack_btfs

from .engine import example_project, objects_of, renamed


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-bench-") as scratch:
        of = objects_of(example_project(Path(scratch)))
    (fitted,) = fit([of], renamed(int(sys.argv[1])), Context())
    pack_btfs(fitted.minimized)
    render_summary(fitted.report)
    # of itself getrusage() would count what the process that started this one had
    own = int(Path("/proc/self/status").read_text(encoding="ascii").split("VmHWM:")[1].split()[0])
    print(1024 * max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))


if __name__ == "__main__":
    main()
