"""`runqslower`: every thread that waits longer than some time for a CPU."""

from __future__ import annotations

import argparse
import sys
import time
from itertools import islice

from runqslower._bpf.runtime import as_command
from runqslower.runqslower_skel import Runqslower


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="runqslower", description=__doc__)
    parser.add_argument("min_us", nargs="?", type=int, default=10_000, help="microseconds (default: %(default)s)")
    parser.add_argument("-p", "--pid", type=int, default=0, help="only the threads of this process")
    parser.add_argument("-v", "--verbose", action="store_true", help="say which programs this kernel takes, and why")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N lines")
    options = parser.parse_args(argv)
    with as_command("runqslower"), Runqslower.open() as bpf:
        bpf.rodata.min_ns = options.min_us * 1000
        bpf.rodata.target_tgid = options.pid
        with bpf.load() as skel:
            skel.attach()
            if options.verbose:
                print(skel.explain(), file=sys.stderr)
            print(f"{'TIME':<8} {'COMMAND':<16} {'TID':>7} {'WAITED (us)':>12} {'BEHIND':>7}", flush=True)
            for event in islice(skel.maps.wait_events, options.count):
                waited_us = event.waited_ns // 1000
                now = time.strftime("%H:%M:%S")
                print(f"{now} {event.comm!s:<16} {event.pid:>7} {waited_us:>12} {event.prev_pid:>7}", flush=True)


if __name__ == "__main__":
    main()
