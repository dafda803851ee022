"""`opensnoop`: every file that is opened, by whom, and with which result."""

from __future__ import annotations

import argparse
import errno
from itertools import islice

from opensnoop._bpf.runtime import as_command
from opensnoop.opensnoop_skel import Opensnoop, open_event


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="opensnoop", description=__doc__)
    parser.add_argument("-p", "--pid", type=int, default=0, help="only this process")
    parser.add_argument("-x", "--failed", action="store_true", help="only what could not be opened")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N lines")
    options = parser.parse_args(argv)
    with as_command("opensnoop"), Opensnoop.open() as bpf:
        bpf.rodata.target_tgid = options.pid
        bpf.rodata.only_failed = options.failed
        with bpf.load() as skel:
            skel.attach()
            print(f"{'PID':>7} {'COMMAND':<16} {'FD':>4} {'ERROR':<10} PATH", flush=True)
            for event in islice(skel.maps.open_events, options.count):
                print(line(event), flush=True)


def line(event: open_event) -> str:
    """One event as a line of the table."""
    fd, error = (event.ret, "") if event.ret >= 0 else ("", errno.errorcode.get(-event.ret, str(-event.ret)))
    return f"{event.tgid:>7} {event.comm!s:<16} {fd:>4} {error:<10} {event.path}"


if __name__ == "__main__":
    main()
