"""`tcprtt-fentry`: the smoothed round-trip time of each IPv4 TCP connection when it is closed."""

from __future__ import annotations

import argparse
import socket
from itertools import islice

from tcprtt_fentry._bpf.runtime import as_command
from tcprtt_fentry.tcprtt_fentry_skel import TcprttFentry


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tcprtt-fentry", description=__doc__)
    parser.add_argument("--count", type=int, metavar="N", help="stop after N lines")
    options = parser.parse_args(argv)
    with as_command("tcprtt-fentry"), TcprttFentry.run() as skel:
        print(f"{'FROM':<21} {'TO':<21} RTT (ms)", flush=True)
        for event in islice(skel.maps.close_events, options.count):
            own = f"{socket.inet_ntoa(bytes(event.saddr))}:{event.sport}"
            peer = f"{socket.inet_ntoa(bytes(event.daddr))}:{event.dport}"
            print(f"{own:<21} {peer:<21} {event.srtt_us / 1000:.3f}", flush=True)


if __name__ == "__main__":
    main()
