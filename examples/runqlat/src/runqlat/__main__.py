"""`runqlat`: how long threads that could run wait for a CPU, as histograms."""

from __future__ import annotations

import argparse

from runqlat._bpf.runtime import Log2Histogram, as_command, intervals, text_by_key
from runqlat.runqlat_skel import Runqlat


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="runqlat", description=__doc__)
    parser.add_argument("interval", nargs="?", type=float, help="seconds between histograms (default: until Ctrl-C)")
    parser.add_argument("count", nargs="?", type=int, help="how many histograms (default: until Ctrl-C)")
    parser.add_argument("-m", "--milliseconds", action="store_true", help="count milliseconds instead of microseconds")
    parser.add_argument("-P", "--processes", action="store_true", help="a histogram for each process")
    parser.add_argument("-p", "--pid", type=int, default=0, help="only this process")
    options = parser.parse_args(argv)
    unit, unit_ns = ("msecs", 1_000_000) if options.milliseconds else ("usecs", 1000)
    with as_command("runqlat"), Runqlat.open() as bpf:
        bpf.rodata.unit_ns = unit_ns
        bpf.rodata.by_process = options.processes
        bpf.rodata.only_tgid = options.pid
        with bpf.load() as skel:
            skel.attach()
            print("Measuring how long threads wait for a CPU. Ctrl-C ends it.", flush=True)
            for _ in intervals(options.interval, options.count):
                found = Log2Histogram.by_key(skel.maps.waits.drain())
                if options.processes:
                    print(text_by_key(found, unit, section="pid"), flush=True)
                else:
                    print("", *(histogram.text(unit) for histogram in found.values()), sep="\n", flush=True)


if __name__ == "__main__":
    main()
