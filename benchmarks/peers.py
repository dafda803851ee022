"""Rows against bcc (Debian's python3-bpfcc): events as they come, start-up, memory, symbols; and drained counts.

bcc compiles against kernel headers: those of the running kernel, or those that BCC_KERNEL_SOURCE names, or any that are
installed (apt install linux-headers-amd64), since its programs here use no types of the kernel.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .machine import BENCHMARKS, REPOSITORY, installed, lacks_bpf, lacks_tools, python_environment
from .measure import median
from .table import Row, Skipped, ours_at_least, ratio_at_least, ratio_at_most

BCC_PYTHON = "/usr/bin/python3"
"""The Python for which distributions package bcc."""
COUNTS = 10_000_000
PAUSE = 0.02
"""Seconds between two readings of the counts."""
LOOKUPS = 200_000
Run = dict[str, float]


def rows(quick: bool) -> Iterator[Row | Skipped]:
    lacking = lacks_bpf() or lacks_tools("clang", "cc")
    if lacking:
        yield Skipped(what="bcc", reason=lacking)
        return
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-benchmark-") as folder:
        work = Path(folder)
        source = installed(BENCHMARKS / "project", work)
        yield from of_counts(source)
        has_bcc = Path(BCC_PYTHON).exists() and not _run_bcc("-c", "import bcc").returncode
        if not has_bcc:
            yield Skipped(what="bcc", reason="python3-bpfcc is not installed")
            return
        subprocess.run(["cc", "-O2", "-o", work / "calls", BENCHMARKS / "calls.c"], check=True)
        headers = kernel_headers(work / "headers")
        yield from of_events(source, work / "calls", headers, seconds=1 if quick else 3, rounds=2 if quick else 5)
        yield from of_symbols()


def _run_bcc(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BCC_PYTHON, *arguments], capture_output=True, text=True, check=False)


def kernel_headers(merged: Path) -> dict[str, str]:
    """The environment that tells bcc of kernel headers, if it does not find them itself.

    Debian's are two packages, and each lacks what the other has; links in the folder `merged` make one of them.
    """
    if "BCC_KERNEL_SOURCE" in os.environ or Path("/lib/modules", platform.release(), "build").exists():
        return {}
    for configured in sorted(Path("/usr/src").glob("linux-headers-*"), reverse=True):
        if (configured / "include/generated/autoconf.h").exists():
            common = configured.with_name(configured.name.rpartition("-")[0] + "-common")
            for part in (common, configured):
                if part.exists():
                    subprocess.run(["cp", "-rsf", f"{part}/.", merged], check=True)
            return {"BCC_KERNEL_SOURCE": str(merged)}
    return {}


# --- events ---------------------------------------------------------------------------------------------------------


def of_events(
    source: Path, calls: Path, headers: dict[str, str], *, seconds: float, rounds: int
) -> Iterator[Row | Skipped]:
    environment = python_environment(source)
    for kind in ("perf", "ring"):
        arguments = [str(calls), str(seconds), kind]
        try:
            runs = [
                (
                    _live([sys.executable, str(BENCHMARKS / "live_ours.py"), *arguments], environment),
                    _live([BCC_PYTHON, str(BENCHMARKS / "live_bcc.py"), *arguments], {**os.environ, **headers}),
                )
                for _ in range(rounds)
            ]
        except RuntimeError as error:
            yield Skipped(what=f"{kind} buffer against bcc", reason=str(error))
            return

        ours, theirs = middle(runs, lambda run: 100 * run["lost"] / (run["lost"] + run["events"]))
        lost = f"lost: {ours:.1f} % here, {theirs:.1f} % with bcc; medians of {rounds} runs"
        ours, theirs = middle(runs, lambda run: run["events"] / run["seconds"])
        yield Row(
            what=f"{kind} buffer, events as they come",
            reference="bcc",
            ours=ours,
            theirs=theirs,
            unit="events/s",
            target=ratio_at_least(1),
            note=f"a process calls getppid() for {seconds:g} s as fast as it can, and one member of each event is "
            f"read; {lost}",
        )
        ours, theirs = middle(runs, lambda run: run["events"] / run["cpu"])
        yield Row(
            what=f"{kind} buffer, events for each second of the reader's CPU time",
            reference="bcc",
            ours=ours,
            theirs=theirs,
            unit="events/s",
            target=ratio_at_least(1),
        )
        ours, theirs = middle(runs, lambda run: run["first"] - run["started"])
        yield Row(
            what=f"{kind} buffer, from the start of Python to the first event",
            reference="bcc",
            ours=ours,
            theirs=theirs,
            unit="s",
            target=ratio_at_most(0.5),
            note="on the clock",
        )
        ours, theirs = middle(runs, lambda run: run["memory"])
        yield Row(
            what=f"{kind} buffer, memory of the process",
            reference="bcc",
            ours=ours,
            theirs=theirs,
            unit="bytes",
            target=ratio_at_most(0.5),
        )


def middle(runs: list[tuple[Run, Run]], of: Callable[[Run], float]) -> tuple[float, float]:
    """The median of what is asked of each run: ours, bcc's."""
    return median([of(ours) for ours, _ in runs]), median([of(theirs) for _, theirs in runs])


def _live(command: list[str], environment: Any) -> Run:
    started = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[1]} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return {**json.loads(done.stdout), "started": started}


# --- symbols --------------------------------------------------------------------------------------------------------

SYMBOLS = """
import json, sys, time
from bcc import BPF
addresses, pid = json.loads(sys.stdin.read()), int(sys.argv[1])
look_up = BPF.ksym if pid < 0 else lambda address: BPF.sym(address, pid)
look_up(addresses[0])
start = time.process_time()
for address in addresses:
    look_up(address)
print(len(addresses) / (time.process_time() - start))
"""


def of_symbols() -> Iterator[Row]:
    sys.path.insert(0, str(REPOSITORY))
    runtime = importlib.import_module("hatch_bpf.runtime")
    own = os.getpid()
    for what, reference, pid, places in (
        ("kernel", "bcc's BPF.ksym()", None, _kernel_code()),
        ("user", "bcc's BPF.sym()", own, _own_code()),
    ):
        chosen = random.Random(1)
        few = [chosen.choice(places) for _ in range(2000)]
        for which, addresses in (
            ("of 2,000 addresses", [chosen.choice(few) for _ in range(LOOKUPS)]),
            ("of addresses that hardly repeat", [chosen.choice(places) for _ in range(LOOKUPS)]),
        ):
            symbolizer = runtime.Symbolizer()
            symbolizer.symbolize(addresses[:1], pid)
            start = time.process_time()
            symbolizer.symbolize(addresses, pid)
            ours = len(addresses) / (time.process_time() - start)
            command = [BCC_PYTHON, "-c", SYMBOLS, str(-1 if pid is None else pid)]
            done = subprocess.run(command, input=json.dumps(addresses), capture_output=True, text=True, check=True)
            yield Row(
                what=f"{what} symbols {which}",
                reference=reference,
                ours=ours,
                theirs=float(done.stdout),
                unit="lookups/s",
                target=ratio_at_least(1),
                note="CPU time, once the symbols are read",
            )


def _kernel_code() -> Sequence[int]:
    """An address in each function of the kernel."""
    lines = Path("/proc/kallsyms").read_text(encoding="ascii").splitlines()
    return [int(words[0], 16) + 3 for words in map(str.split, lines) if words[1] in "tT"]


def _own_code() -> Sequence[int]:
    """The addresses of this process' largest mapping with code, which is Python's."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()]
    mapped = [words[0] for words in lines if "x" in words[1] and words[-1].startswith("/")]
    code = [tuple(int(end, 16) for end in ends.split("-")) for ends in mapped]
    first, last = max(code, key=lambda ends: ends[1] - ends[0])
    return range(first, last)


# --- counts ---------------------------------------------------------------------------------------------------------


def of_counts(source: Path) -> Iterator[Row]:
    sys.path.insert(0, str(source))
    bench = importlib.import_module("bench.bench_skel")
    cleared = _kept(bench, _by_clear)
    for call, read, least in (
        ("drain()", _by_drain, COUNTS - COUNTS // 1_000_000),
        ("drain(remove=False)", _by_growth, COUNTS),
    ):
        kept = _kept(bench, read)
        yield Row(
            what=f"{COUNTS:,} counts under load, read every {PAUSE * 1000:g} ms by {call}",
            reference="items() and clear()",
            ours=kept,
            theirs=cleared,
            unit="counts",
            target=ours_at_least(least),
            note=f"lost: {COUNTS - kept:,} by {call}, {COUNTS - cleared:,} by items() and clear()",
        )


def _by_drain(counts: Any) -> int:
    return sum(value for _, value in counts.drain())


def _by_growth(counts: Any) -> int:
    return sum(value for _, value in counts.drain(remove=False))


def _by_clear(counts: Any) -> int:
    total: int = sum(counts.values())
    counts.clear()
    return total


def _kept(bench: Any, read: Callable[[Any], int]) -> int:
    """How many counts come out of the map, of those that a program makes in another thread."""
    total = 0
    with bench.Bench.open() as bpf, bpf.load() as skel:

        def work() -> None:
            for _ in range(100):
                skel.programs.count.test_run(bytes(64), repeat=COUNTS // 100)

        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            total += read(skel.maps.counts)
            time.sleep(PAUSE)
        thread.join()
        return total + read(skel.maps.counts)
