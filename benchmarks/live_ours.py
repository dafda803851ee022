"""`live_ours.py CALLS SECONDS perf|ring`: events through the skeleton of bench.bpf.c; see `live.py`."""

from __future__ import annotations

import importlib
import sys
import time

from live import Load  # type: ignore[import-not-found]

bench = importlib.import_module("bench.bench_skel")
load = Load(sys.argv[1], float(sys.argv[2]))
with bench.Bench.open() as bpf, bpf.load() as skel:
    skel.bss.pid = load.pid
    is_perf = sys.argv[3] == "perf"
    buffer = skel.maps.live if is_perf else skel.maps.events
    program = skel.programs.into_perf if is_perf else skel.programs.into_ring
    total = 0

    def poll() -> int:
        global total
        events = buffer.poll(0.1)
        if events and not load.first:
            load.first = time.monotonic()
        for event in events:
            total += event.number
        return len(events)

    with program.attach():
        load.measure(poll, lambda: buffer.lost if is_perf else skel.bss.lost)
