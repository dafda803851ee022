"""`python -m tests.cycles --count N`: open, load, attach, use and close objects over and over, to see what leaks.

Output: JSON with what this process and the kernel hold after the first cycles and after the last: open descriptors,
threads, mappings, resident memory, Python objects, pinned files, programs, maps and links. Needs root; uses a network
namespace and a cgroup of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hatch_bpf.runtime import BpfError, ObjectSpec
from tests.common import needs, tracefs
from tests.common.namespaces import own_cgroup, own_loopback
from tests.common.skeleton_package import load_skeleton

WARM_UP = 20
"""Cycles until Python's and libbpf's caches are full."""
NAME = 15
"""The kernel keeps this many characters of a name."""
SLOW = 10
"""Attach tracepoints and uprobes only in every tenth cycle: detaching one takes a tenth of a second."""
PATIENCE = 120
"""Seconds to wait for the kernel, which frees what was closed later."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cycles", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args(arguments)
    tracefs.mounted()
    with tempfile.TemporaryDirectory() as folder, own_loopback(), own_cgroup() as cgroup, bpf_fs(Path(folder)) as pins:
        attachments = load_skeleton("attachments", Path(folder))
        events = load_skeleton("events", Path(folder), events={"ring": "event", "perf": "event"})
        names = ("Rejected", "Probes", "Iterators", "Sockmap")
        others = [getattr(load_skeleton(name.lower(), Path(folder)), name) for name in names]
        specs = [cls._spec_ for cls in (attachments.Attachments, events.Events, *others)]
        foreign = held_by_kernel(specs)
        for number in range(WARM_UP):
            cycle(attachments, events, cgroup, pins, is_slow=number % SLOW == 0)
            if number % SLOW == 0:
                goes_wrong(*others)
        before = settled(pins, specs, foreign)
        start = os.times()
        for number in range(options.count):
            cycle(attachments, events, cgroup, pins, is_slow=number % SLOW == 0)
            if number % SLOW == 0:
                goes_wrong(*others)
        spent = os.times()
        after = settled(pins, specs, foreign)
    cpu = spent.user - start.user + spent.system - start.system
    print(json.dumps({"cycles": options.count, "before": before, "after": after, "cpu_seconds": round(cpu, 1)}))
    return 0


def cycle(attachments: Any, events: Any, cgroup: Path, pins: Path, *, is_slow: bool) -> None:
    """Open, use and close two objects, with every kind of link, map and buffer that they have."""
    with attachments.Attachments.open() as bpf:
        bpf.rodata_tuned.scale = 1
        bpf.programs.on_tracepoint.autoattach = is_slow
        with bpf.load() as skel:
            programs = skel.programs
            skel.attach()
            programs.on_xdp.attach_xdp("lo", mode="skb")
            programs.on_tc.attach_tc("lo")
            programs.on_cgroup.attach_cgroup(cgroup)
            if is_slow:
                programs.on_uprobe.attach_uprobe(sys.executable, offset=0)
            programs.on_xdp.test_run(b"\x01" * 64)
            os.getppid()
            assert skel.bss.raw_tracepoints > 0
    with events.Events.open() as bpf:
        bpf.rodata.pid = os.getpid()
        with bpf.load() as skel:
            maps = skel.maps
            maps.perf.open(pages=1)
            maps.ring.pin(str(pins / "ring"))
            (pins / "ring").unlink()
            if is_slow:
                skel.attach()
            os.getppid()
            assert [event.number for event in maps.ring.poll(0)] == [0] * is_slow
            assert len(maps.perf.poll(0)) == is_slow
            assert maps.orders.send(bytes(1))


def goes_wrong(rejected: Any, probes: Any, iterators: Any, sockmap: Any) -> None:
    """Fail to load and to attach, leave objects unclosed, and attach several links at once."""
    try:
        rejected.open().load()
    except BpfError:
        pass
    probes.open()
    skel = probes.open().load()
    try:
        skel.programs.on_sample.attach_perf_event(-1)
    except BpfError:
        pass
    skel.programs.on_sample.attach_sampling(10)
    try:
        iterators.open().load().programs.list_tasks.read_iter()
    except BpfError:
        pass  # a kernel that refuses them
    skel = sockmap.open().load()
    skel.programs.on_verdict.attach_sockmap(skel.maps.sockets)


def settled(pins: Path, specs: Sequence[ObjectSpec], foreign: dict[str, set[int]]) -> dict[str, int]:
    """What is held once the kernel has freed everything that it did not hold before the first cycle."""
    deadline = time.monotonic() + PATIENCE
    while True:
        gc.collect()
        own = {kind: len(ids - foreign[kind]) for kind, ids in held_by_kernel(specs).items()}
        if not any(own.values()) or time.monotonic() > deadline:
            return {**own, **held_by_process(), "pinned files": len(list(pins.iterdir()))}
        time.sleep(0.5)


def held_by_kernel(specs: Sequence[ObjectSpec]) -> dict[str, set[int]]:
    """The ids of the programs, maps and links of some objects, told by their names.

    They are ids, not counts: objects of the same names that were closed earlier may go at any moment.
    """
    programs = {program.name[:NAME] for spec in specs for program in spec.programs}
    maps = {item.name[:NAME] for spec in specs for item in spec.maps}
    sections = tuple(f"{spec.name[:8]}." for spec in specs)  # .bss of attachments is attachme.bss
    own = {told.id for told in every("prog") if told.prog_name.decode() in programs}
    names = {told.id: told.map_name.decode() for told in every("map")}
    return {
        "progs": own,
        "maps": {number for number, name in names.items() if name in maps or name.startswith(sections)},
        "links": {told.id for told in every("link") if told.prog_id in own},
    }


class Info(ctypes.Union):
    """The start of `struct bpf_prog_info`, `bpf_map_info` and `bpf_link_info`."""

    class _Prog(ctypes.Structure):
        _fields_ = (("skipped", ctypes.c_uint8 * 64), ("prog_name", ctypes.c_char * 16))

    class _Map(ctypes.Structure):
        _fields_ = (("skipped_too", ctypes.c_uint8 * 24), ("map_name", ctypes.c_char * 16))

    class _Ids(ctypes.Structure):
        _fields_ = (("type", ctypes.c_uint32), ("id", ctypes.c_uint32), ("prog_id", ctypes.c_uint32))

    _anonymous_ = ("prog", "map", "ids")
    _fields_ = (("prog", _Prog), ("map", _Map), ("ids", _Ids))


def every(kind: str) -> Iterator[Any]:
    """The kernel's information about every program, map or link."""
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    number, following = ctypes.c_uint32(0), ctypes.c_uint32()
    while not getattr(libbpf, f"bpf_{kind}_get_next_id")(number, ctypes.byref(following)):
        number = ctypes.c_uint32(following.value)
        fd = getattr(libbpf, f"bpf_{kind}_get_fd_by_id")(number)
        if fd < 0:
            continue  # it is gone by now
        told, length = Info(), ctypes.c_uint32(ctypes.sizeof(Info))
        if not libbpf.bpf_obj_get_info_by_fd(fd, ctypes.byref(told), ctypes.byref(length)):
            told.ids.id = number.value
            yield told
        os.close(fd)


def held_by_process() -> dict[str, int]:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "mappings": len(Path("/proc/self/maps").read_text().splitlines()),
        "resident KB": resident // 1024,
        "Python objects": len(gc.get_objects()),
    }


@contextmanager
def bpf_fs(folder: Path) -> Iterator[Path]:
    """A BPF file system that only this process uses."""
    place = folder / "bpf"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", os.fsencode(place), b"bpf", 0, None):
        needs.missing("a BPF file system can't be mounted")
    try:
        yield place
    finally:
        libc.umount2(os.fsencode(place), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
