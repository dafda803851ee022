"""`python -m tests.lab.example`: the example's wheel on real kernels, with their BTF and with it hidden.

Builds the wheel of example_project, puts nothing but it and a Python into virtual machines, and runs `tcprtt` there.
What it tells of connections is held against what the kernel tells through TCP_INFO. Prints a line for each kernel and
way. Exit status: 0 when each did what it must, 1 when not, 2 when the lab itself failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hatch_bpf.errors import HatchBpfError
from hatch_bpf.kernels.archive import list_kernels
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.lab import cpio
from tests.common.projects import build_wheel
from tests.lab.__main__ import KERNELS, _chosen
from tests.lab.guest import SUITES
from tests.lab.lab import Lab, LabError, Outcome, wheels

EXAMPLE = KERNELS.parent
IN_GUEST = Path(__file__).with_name("example_in_guest.py")
LIBBPF_TOO_OLD = "bullseye"
"""The suite whose libbpf the runtime must refuse."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.example", description=__doc__)
    parser.add_argument("kernels", nargs="*", default=["*/x86_64/*"])
    parser.add_argument("--suite", choices=SUITES, default="bookworm", help="Debian release of Python and libbpf")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="virtual machines at a time")
    options = parser.parse_args(arguments)
    lab = Lab()
    embedded = {entry.kernel for entry in list_kernels(KERNELS)}
    jobs = [(kernel, hidden) for kernel in _chosen(options.kernels) for hidden in (False, True)]
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-lab-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        files = wheels([build_wheel(EXAMPLE, Path(folder))])
        files["in_guest.py"] = cpio.file(IN_GUEST.read_bytes())

        def run(job: tuple[Kernel, bool]) -> Outcome:
            kernel, hidden = job
            command = "PYTHONPATH=site python3 in_guest.py"
            return lab.run(kernel, command, files=files, suite=options.suite, hide_btf=hidden)

        for (kernel, hidden), outcome in zip(jobs, pool.map(run, jobs), strict=True):
            fault = _fault(outcome, _wanted(options.suite, covered=not hidden or kernel in embedded))
            wrong += bool(fault)
            way = "BTF hidden" if hidden else "own BTF"
            print(f"{kernel}, {way}: {fault or _told(outcome)} ({outcome.seconds:.1f} s)", flush=True)
    return int(wrong > 0)


def _wanted(suite: str, *, covered: bool) -> str:
    """What tcprtt must say of the BTF it uses, or of what is wrong."""
    if suite == LIBBPF_TOO_OLD:
        return "libbpf"
    return "Types: " if covered else "kernel"


def _fault(outcome: Outcome, wanted: str) -> str:
    """What is wrong with an outcome; empty when nothing is."""
    records = outcome.records()
    if not records or wanted not in outcome.output or "Traceback" in outcome.output:
        return f'WRONG, "{wanted}" is not what it says:\n{outcome.output}'
    (record,) = records
    refused = wanted != "Types: "
    if refused and record["status"] != 1:
        return f"WRONG, it should have refused: {outcome.output}"
    if not refused and not (record["status"] == 0 and record["told"] and record["right"] == record["told"]):
        return f"WRONG, some events are not what TCP_INFO says: {outcome.output}"
    return ""


def _told(outcome: Outcome) -> str:
    (record,) = outcome.records()
    said = next(line for line in outcome.output.splitlines() if not line.startswith("{"))
    if record["status"]:
        return f"refused, {said}"
    return f"{record['events']} events, {record['right']} of {record['told']} as TCP_INFO has them; {said}"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (HatchBpfError, LabError) as error:
        print(error)
        sys.exit(2)
