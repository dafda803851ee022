"""`pglocks`: every wait for a lock in PostgreSQL with its query, and how often locks of each mode were asked for."""

from __future__ import annotations

import argparse
import time
from itertools import islice
from pathlib import Path

from pglocks._bpf.runtime import as_command
from pglocks.pglocks_skel import Pglocks, PglocksLoaded, wait_event

MODES = (
    *("", "AccessShare", "RowShare", "RowExclusive", "ShareUpdateExclusive", "Share", "ShareRowExclusive"),
    *("Exclusive", "AccessExclusive"),
)
TYPES = (
    *("relation", "extend", "frozenids", "page", "tuple", "transactionid", "virtualxid", "token", "object"),
    *("userlock", "advisory", "applytransaction"),
)
"""Of locks, by their numbers in PostgreSQL's lock.h and lockdefs.h."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="pglocks", description=__doc__)
    parser.add_argument("--server", type=Path, help="the program postgres (default: the newest in /usr/lib/postgresql)")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N waits")
    options = parser.parse_args(argv)
    server = options.server or installed_server()
    if server is None:
        parser.error("there is no server in /usr/lib/postgresql: name the program with --server")
    with as_command("pglocks"), Pglocks.open() as bpf, bpf.load() as skel:
        attach(skel, server)
        print(f"{'TIME':<8} {'PID':>7} {'WAITED (ms)':>11} {'MODE':<20} {'OF':<22} QUERY", flush=True)
        try:
            for event in islice(skel.maps.wait_events, options.count):
                print(line(event), flush=True)
        finally:
            requests = enumerate(skel.maps.requests.sums())
            print("Asked for:", ", ".join(f"{MODES[mode]} {number}" for mode, number in requests if number), flush=True)


def installed_server() -> Path | None:
    """Where Debian and Ubuntu have the newest PostgreSQL."""
    found = Path("/usr/lib/postgresql").glob("[0-9]*/bin/postgres")
    return max(found, key=lambda path: int(path.parts[4]), default=None)


def attach(skel: PglocksLoaded, server: Path) -> None:
    """Attach to all processes of a server, also to those that start later."""
    skel.programs.on_request.attach_uprobe(server, "LockAcquireExtended")
    for program, probe in (
        (skel.programs.on_query_start, "query__start"),
        (skel.programs.on_query_done, "query__done"),
        (skel.programs.on_wait_start, "lock__wait__start"),
        (skel.programs.on_wait_done, "lock__wait__done"),
    ):
        program.attach_usdt(server, "postgresql", probe)


def line(event: wait_event) -> str:
    """One wait as a line of the table."""
    waited_ms = event.waited_ns / 1e6
    lock = f"{TYPES[event.type]} {event.object}"
    query = " ".join(str(event.query).split())
    return f"{time.strftime('%H:%M:%S')} {event.pid:>7} {waited_ms:>11.3f} {MODES[event.mode]:<20} {lock:<22} {query}"


if __name__ == "__main__":
    main()
