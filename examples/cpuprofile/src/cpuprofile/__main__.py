"""`cpuprofile`: what the CPUs do, as counted stacks that flame graph tools read."""

from __future__ import annotations

import argparse

from cpuprofile._bpf.runtime import FoldedStacks, Symbolizer, as_command, intervals
from cpuprofile.cpuprofile_skel import Cpuprofile, CpuprofileLoaded


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="cpuprofile", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=int, help="how long (default: until Ctrl-C)")
    parser.add_argument("-F", "--frequency", type=int, default=99, metavar="HZ", help="default: %(default)s")
    parser.add_argument("-p", "--pid", type=int, default=-1, help="only this process, with all of its threads")
    options = parser.parse_args(argv)
    with as_command("cpuprofile"), Cpuprofile.open() as bpf, bpf.load() as skel:
        skel.programs.on_sample.attach_sampling(options.frequency, pid=options.pid)
        symbolizer, folded = Symbolizer(), FoldedStacks()
        # every second, while most of the processes still run: the names of those that have ended are gone
        for _ in intervals(1, options.seconds):
            collect(skel, symbolizer, folded)
        print(folded)


def collect(skel: CpuprofileLoaded, symbolizer: Symbolizer, folded: FoldedStacks) -> None:
    """Move what was counted since the last call into the folded stacks."""
    for key, number in skel.maps.samples.drain():
        user = symbolizer.symbolize(skel.maps.stacks.get(key.user_stack, []), key.pid)
        kernel = symbolizer.symbolize(skel.maps.stacks.get(key.kernel_stack, []))
        folded.add(number, str(key.comm), user, kernel)


if __name__ == "__main__":
    main()
