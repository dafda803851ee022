"""`live_bcc.py CALLS SECONDS perf|ring`: the same events through bcc, read as its documentation says; see `live.py`."""

from __future__ import annotations

import sys
import time

from bcc import BPF  # type: ignore[import-not-found]
from live import Load  # type: ignore[import-not-found]

is_perf = sys.argv[3] == "perf"
load = Load(sys.argv[1], float(sys.argv[2]))
SOURCE = """
struct event { u64 time; u32 pid; u32 number; char comm[16]; };
BPF_ARRAY(state, u32, 2);
OUTPUT
RAW_TRACEPOINT_PROBE(sys_enter) {
    struct event event = {};
    u32 zero = 0, one = 1, *number = state.lookup(&zero), *lost = state.lookup(&one);
    event.pid = bpf_get_current_pid_tgid() >> 32;
    if (event.pid != PID || !number || !lost)
        return 0;
    event.time = bpf_ktime_get_ns();
    event.number = (*number)++;
    bpf_get_current_comm(event.comm, sizeof(event.comm));
    SUBMIT
    return 0;
}
"""
output, submit = (
    ("BPF_PERF_OUTPUT(events);", "events.perf_submit(ctx, &event, sizeof(event));")
    if is_perf
    else (
        "BPF_RINGBUF_OUTPUT(events, 4096);",
        "if (events.ringbuf_output(&event, sizeof(event), 0)) (*lost)++;",
    )
)
b = BPF(text=SOURCE.replace("PID", str(load.pid)).replace("OUTPUT", output).replace("SUBMIT", submit))
events = b["events"]
seen = total = told = 0


def on_event(_first: object, data: object, _size: int) -> None:
    global seen, total
    if not load.first:
        load.first = time.monotonic()
    seen += 1
    total += events.event(data).number


def on_lost(*given: int) -> None:
    global told
    told += given[-1]


if is_perf:
    events.open_perf_buffer(on_event, page_cnt=64, lost_cb=on_lost)
else:
    events.open_ring_buffer(on_event)


def poll() -> int:
    global seen
    seen = 0
    if is_perf:
        b.perf_buffer_poll(100)
    else:
        b.ring_buffer_poll(100)
    return seen


load.measure(poll, lambda: told if is_perf else b["state"][1].value)
