"""`flat`: how long TCP handshakes and UDP questions on an interface take to be answered."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Sequence
from itertools import islice

from flat._bpf.runtime import as_command
from flat.flat_skel import Flat, flow_event

PROTOCOLS = {socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP"}


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="flat", description=__doc__)
    parser.add_argument("-i", "--interface", required=True, help="a network interface, such as eth0")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N lines")
    options = parser.parse_args(argv)
    with as_command("flat"), Flat.run() as skel:
        for direction in ("ingress", "egress"):
            skel.programs.flat.attach_tc(options.interface, direction)
        print(f"{'PROTO':<5} {'FROM':<22} {'TO':<22} ANSWERED (ms)", flush=True)
        for event in islice(skel.maps.flow_events, options.count):
            print(line(event), flush=True)


def line(event: flow_event) -> str:
    """One event as a line of the table."""
    flow = event.flow
    source, target = endpoint(flow.family, flow.saddr, flow.sport), endpoint(flow.family, flow.daddr, flow.dport)
    took_ms = (event.end_ns - event.start_ns) / 1e6
    return f"{PROTOCOLS[flow.protocol]:<5} {source:<22} {target:<22} {took_ms:.3f}"


def endpoint(version: int, address: Sequence[int], port: int) -> str:
    """`192.0.2.1:80`, `[2001:db8::1]:80`"""
    packed = bytes(address)
    if version == 4:
        return f"{socket.inet_ntop(socket.AF_INET, packed[:4])}:{port}"
    return f"[{socket.inet_ntop(socket.AF_INET6, packed)}]:{port}"


if __name__ == "__main__":
    main()
