"""`tcprtt`: print an event of the BPF program a line, until interrupted or until there were enough."""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from itertools import islice

from tcprtt._bpf.runtime import as_command
from tcprtt.tcprtt_skel import Tcprtt, rtt_event


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tcprtt", description=__doc__)
    parser.add_argument("--cgroup", default="/sys/fs/cgroup", help="a cgroup v2 folder (default: %(default)s)")
    parser.add_argument("--min-rtt-us", type=int, default=0, metavar="N", help="leave out what is faster than N us")
    parser.add_argument("--count", type=int, default=None, metavar="N", help="stop after N events")
    parser.add_argument("--btf", metavar="FILE", help="BTF of this kernel, instead of the kernel's own or the wheel's")
    options = parser.parse_args(argv)
    with as_command("tcprtt"):
        run(options.cgroup, options.min_rtt_us, options.count, options.btf)


def run(cgroup: str, min_rtt_us: int, count: int | None, btf: str | None) -> None:
    """Attach to a cgroup and print its round-trip times. Raises `BpfError`."""
    with contextlib.ExitStack() as stack:
        bpf = stack.enter_context(Tcprtt.open(btf=btf))
        bpf.rodata.min_rtt_us = min_rtt_us
        skel = stack.enter_context(bpf.load())
        skel.programs.bpf_sockops_cb.attach_cgroup(cgroup)
        print(f"Types: {skel.btf}", file=sys.stderr)
        print(f"{'Src addr':<22} {'Port':<6} -> {'Dest addr':<22} {'Port':<6} RTT (ms)", flush=True)
        try:
            for event in islice(skel.maps.rtt_events, count):
                print(line(event), flush=True)
        finally:
            if skel.bss.lost_events:
                print(f"{skel.bss.lost_events} events were lost: the ring buffer was full", file=sys.stderr)


def line(event: rtt_event) -> str:
    """One event as a line of the table."""
    family, length = (socket.AF_INET6, 16) if event.family == socket.AF_INET6 else (socket.AF_INET, 4)
    source, target = (socket.inet_ntop(family, bytes(address[:length])) for address in (event.saddr, event.daddr))
    return f"{source:<22} {event.sport:<6} -> {target:<22} {event.dport:<6} {event.srtt_us / 1000:.3f}"


if __name__ == "__main__":
    main()
