"""`python -m tests.soak --seconds N`: put the example under load, and check what it reports and its memory.

Builds and installs the example, starts its `tcprtt` on a cgroup, and has processes in that cgroup make TCP connections
over a loopback interface of their own. From time to time it stops `tcprtt` and makes connections as fast as it can,
so that the ring buffer overflows. Another BPF program in the same cgroup counts every call that `tcprtt` reports. Then

- the events printed, and those that `tcprtt` says were lost, are together exactly as many as were counted;
- every event belongs to a connection that was made, and has plausible values;
- every connection made while `tcprtt` was running was reported, at both of its ends;
- the resident memory of `tcprtt` has not grown since the load began.

Prints the figures as JSON, then each fault. Exit status: 0 without faults, 1 otherwise. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from tests.common import needs
from tests.common.namespaces import own_loopback
from tests.common.skeleton_package import load_skeleton

TRAFFIC = Path(__file__).parent / "common" / "soak_traffic.py"
INTERRUPTIBLE = """
import signal, sys
from tcprtt.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background processes with it ignored
sys.exit(main())
"""
LINE = re.compile(r"127\.0\.0\.1 +(\d+) +-> 127\.0\.0\.1 +(\d+) +(\d+)\.(\d{3})\n")
LOST = re.compile(r"^(\d+) events were lost", re.M)
SPARE = 5
"""Seconds before the first stop and after the last, and between them at least."""
STOPS_EVERY = 60
"""Seconds from one stop of `tcprtt` to the next."""
STOP = 3
"""Seconds that a stop lasts."""
GROWTH = 512
"""KB by which memory may have grown since the load began, whatever the number of events."""
WARM_UP = 4
"""Seconds of load until the allocator has what it needs."""

Pair = tuple[int, int]


@dataclass
class Figures:
    """What each side counted, and how memory developed."""

    seconds: float = 0
    connections: int = 0
    connections_in_kernel: int = 0
    measurements_in_kernel: int = 0
    events: int = 0
    lost: int = 0
    stops: int = 0
    unseen_while_stopped: int = 0
    unseen: int = 0
    strangers: int = 0
    resident_kb: list[int] = field(default_factory=list)

    @property
    def kb_per_minute(self) -> float:
        """The slope of resident memory, by least squares."""
        count = len(self.resident_kb)
        middle, mean = (count - 1) / 2, sum(self.resident_kb) / count
        spread = sum((i - middle) ** 2 for i in range(count))
        return 60 * sum((i - middle) * (kb - mean) for i, kb in enumerate(self.resident_kb)) / max(spread, 1)

    def faults(self) -> list[str]:
        """Every expectation that these figures miss."""
        told = [
            (self.connections > 0, "no connection was made"),
            (
                self.connections == self.connections_in_kernel,
                "the kernel counted other connections than were made",
            ),
            (
                self.events + self.lost == self.measurements_in_kernel,
                "events are missing that `tcprtt` did not count as lost",
            ),
            (self.lost > 0, "the ring buffer never overflowed"),
            (self.strangers == 0, "there were events of connections that were never made, or lines that make no sense"),
            (self.unseen == 0, "connections were not reported"),
            (self.unseen_while_stopped <= self.lost, "more connections went unreported than events were lost"),
            (self.resident_kb[-1] - self.resident_kb[0] < GROWTH, "memory grew"),
        ]
        return [fault for is_right, fault in told if not is_right]


class Reader(threading.Thread):
    """Reads what `tcprtt` prints, and counts how often it reports each pair of ports."""

    def __init__(self, output: IO[str]) -> None:
        super().__init__()
        self.seen: Counter[Pair] = Counter()
        self.events = 0
        self.garbage: list[str] = []
        self._output = output

    def run(self) -> None:
        self._output.readline()  # the heading
        for line in self._output:
            self.events += 1
            found = LINE.fullmatch(line)
            if found is None:
                self.garbage.append(line)
            else:
                self.seen[int(found[1]), int(found[2])] += 1


def run(tcprtt: Path, *, seconds: float, rate: int = 150) -> Figures:
    """Put the installed example under load for `seconds`."""
    needs.root_bpf()
    group = needs.cgroup2() / f"hatch-bpf-soak-{os.getpid()}"
    group.mkdir()
    try:
        with own_loopback(), tempfile.TemporaryDirectory() as folder:
            return _run(tcprtt, group, Path(folder), seconds=seconds, rate=rate)
    finally:
        group.rmdir()


def _run(tcprtt: Path, group: Path, folder: Path, *, seconds: float, rate: int) -> Figures:
    figures = Figures()
    counter = load_skeleton("soak", folder)
    with counter.Soak.open().load() as skel, (folder / "errors").open("w+") as errors:
        command = [tcprtt.parent / "python", "-c", INTERRUPTIBLE, "--cgroup", group]
        watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert watcher.stdout is not None
        reader = Reader(watcher.stdout)
        reader.start()
        try:
            _wait_for("Types: ", folder / "errors")
            skel.programs.count.attach_cgroup(group)
            stops = _under_traffic(watcher, figures, group=group, made=folder / "made", seconds=seconds, rate=rate)
            time.sleep(1)  # for what is in the ring buffer
        finally:
            watcher.send_signal(signal.SIGCONT)
            watcher.send_signal(signal.SIGINT)
            try:
                watcher.wait(60)
            finally:
                watcher.kill()
                watcher.wait()
                reader.join()
        errors.seek(0)
        figures.lost = sum(int(number) for number in LOST.findall(errors.read()))
        figures.connections_in_kernel = skel.bss.connections
        figures.measurements_in_kernel = skel.bss.measurements
    figures.events = reader.events
    _compare(figures, reader, folder / "made", stops)
    return figures


def _under_traffic(
    watcher: subprocess.Popen[str], figures: Figures, *, group: Path, made: Path, seconds: float, rate: int
) -> list[tuple[float, float]]:
    """Make connections in the cgroup for `seconds`; returns the intervals in which the watcher was stopped."""
    join = f'echo $$ > "{group}/cgroup.procs" && exec "$@"'
    command = ["sh", "-c", join, "sh", sys.executable, TRAFFIC, made, str(rate)]
    traffic = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    try:
        stops = _load(watcher, traffic, figures, seconds)
        assert traffic.wait(60) == 0
    finally:
        traffic.kill()
        traffic.wait()
    return stops


def _wait_for(word: str, path: Path) -> None:
    deadline = time.monotonic() + 30
    while word not in path.read_text():
        if time.monotonic() > deadline:
            raise TimeoutError(f"tcprtt did not start: {path.read_text()}")
        time.sleep(0.05)


def _load(
    watcher: subprocess.Popen[str], traffic: subprocess.Popen[str], figures: Figures, seconds: float
) -> list[tuple[float, float]]:
    """Let the traffic run, note memory every second, stop the watcher now and then; returns when it was stopped."""
    assert traffic.stdin is not None
    stops: list[tuple[float, float]] = []
    begin = time.monotonic()
    next_stop = begin + min(STOPS_EVERY, max(WARM_UP + SPARE, seconds / 3))
    while time.monotonic() - begin < seconds:
        time.sleep(1)
        if time.monotonic() - begin > WARM_UP:
            figures.resident_kb.append(_resident_kb(watcher.pid))
        if next_stop < time.monotonic() < begin + seconds - STOP - SPARE:
            start = time.monotonic()
            watcher.send_signal(signal.SIGSTOP)
            _tell(traffic, "fast")
            time.sleep(STOP)
            _tell(traffic, "slow")
            watcher.send_signal(signal.SIGCONT)
            stops.append((start, time.monotonic()))
            next_stop = start + STOPS_EVERY
    _tell(traffic, "stop")
    figures.seconds = round(time.monotonic() - begin, 1)
    figures.stops = len(stops)
    return stops


def _tell(traffic: subprocess.Popen[str], word: str) -> None:
    assert traffic.stdin is not None
    traffic.stdin.write(word + "\n")
    traffic.stdin.flush()


def _resident_kb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def _compare(figures: Figures, reader: Reader, path: Path, stops: list[tuple[float, float]]) -> None:
    """Compare the reports with the connections made; the file has a line for each: both ports and two times."""
    made: Counter[Pair] = Counter()
    lately: Counter[Pair] = Counter()
    for line in path.read_text().splitlines():
        client, server, begin, end = line.split()
        pair = (int(client), int(server))
        made[pair] += 1
        # after a stop the ring buffer may stay full until the watcher has read it
        if any(float(end) > start and float(begin) < until + SPARE / 2 for start, until in stops):
            lately[pair] += 1
    figures.connections = made.total()
    for connection, count in made.items():
        for pair in (connection, connection[::-1]):
            missing = max(0, count - reader.seen[pair])
            excused = min(missing, lately[connection])
            figures.unseen_while_stopped += excused
            figures.unseen += missing - excused
    known = {*made, *((server, client) for client, server in made)}
    figures.strangers = len(reader.garbage) + sum(count for pair, count in reader.seen.items() if pair not in known)


def main(arguments: list[str]) -> int:
    from tests.common.projects import build_wheel
    from tests.system.test_example import copy_of_example, install  # these need pytest; the rest does not

    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=int, default=150, help="connections a second")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(copy_of_example(Path(folder) / "example"), Path(folder) / "out")
        installed = install(wheel, Path(folder) / "venv")
        figures = run(installed / "tcprtt", seconds=options.seconds, rate=options.rate)
    memory = figures.resident_kb
    shown = asdict(figures) | {
        "resident_kb": {"first": memory[0], "last": memory[-1], "least": min(memory), "most": max(memory)},
        "kb_per_minute": round(figures.kb_per_minute, 2),
    }
    print(json.dumps(shown, indent=2))
    for fault in figures.faults():
        print(f"WRONG: {fault}")
    return 1 if figures.faults() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
