"""`keepcount`: counts a cgroup's traffic, also while no keepcount runs, until `keepcount --stop`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from keepcount._bpf.runtime import PinnedLink, Program, as_command, intervals
from keepcount.keepcount_skel import Keepcount

LINKS = ("on_receive", "on_send")
"""The programs, by whose names their links are pinned."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="keepcount", description=__doc__)
    parser.add_argument("interval", nargs="?", type=float, default=1, help="seconds between lines (default: 1)")
    parser.add_argument("count", nargs="?", type=int, help="how many lines (default: until Ctrl-C)")
    parser.add_argument("--cgroup", default="/sys/fs/cgroup", help="a cgroup v2 folder (default: %(default)s)")
    parser.add_argument("--pins", type=Path, default="/sys/fs/bpf/keepcount", help="default: %(default)s")
    parser.add_argument("--stop", action="store_true", help="detach the programs and forget the counts")
    options = parser.parse_args(argv)
    with as_command("keepcount"):
        if options.stop:
            stop(options.pins)
        else:
            run(options.pins, options.cgroup, options.interval, options.count)


def run(pins: Path, cgroup: str, interval: float, count: int | None) -> None:
    """Begin to count, or go on with the counts of an earlier run, and print them."""
    with Keepcount.open() as bpf:
        bpf.maps.totals.pin_path = pins / "totals"
        with bpf.load() as skel:
            for name in LINKS:
                keep_attached(skel.programs[name], pins / name, cgroup)
            print(f"{'TIME':<8} {'RECEIVED':>10} {'BYTES':>14} {'SENT':>10} {'BYTES':>14}", flush=True)
            for _ in intervals(interval, count):
                received, sent = skel.maps.totals[:]
                print(
                    f"{time.strftime('%H:%M:%S')} {received.packets:>10} {received.bytes:>14}"
                    f" {sent.packets:>10} {sent.bytes:>14}",
                    flush=True,
                )


def keep_attached(program: Program, path: Path, cgroup: str) -> None:
    """Attach a program for longer than this process lives.

    If an earlier run did so, its link gets the new program in one step, between two packets.
    """
    if path.exists():
        with PinnedLink(path) as link:
            link.update(program)
    else:
        program.attach_cgroup(cgroup).pin(path)


def stop(pins: Path) -> None:
    """Undo what `run()` left: what is pinned ends with its file."""
    for name in (*LINKS, "totals"):
        (pins / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
