"""Rows about the runtime: importing a skeleton, loading, reading ring buffers and maps. Also the start of the CLI."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .machine import BENCHMARKS, EXAMPLE, REPOSITORY, cgroup, installed, lacks_bpf, lacks_tools, python_environment
from .measure import cpu_of, cpu_seconds, interleaved
from .table import Row, Skipped, figure, more_by_at_most, ratio_at_least, ratio_at_most

EVENTS = 100_000
ENTRIES = 100_000
BATCH = 4096


def rows(quick: bool) -> Iterator[Row | Skipped]:
    rounds = 3 if quick else 25
    with tempfile.TemporaryDirectory(prefix="hatch-bpf-benchmark-") as folder:
        work = Path(folder)
        yield from of_starting(work, rounds)
        yield from of_loading(work, rounds)
        yield from of_reading(work, rounds)


# --- starting -------------------------------------------------------------------------------------------------------


def of_starting(work: Path, rounds: int) -> Iterator[Row | Skipped]:
    nothing = [sys.executable, "-c", "pass"]
    lacking = lacks_tools("clang")
    if lacking:
        yield Skipped(what="import of a skeleton", reason=lacking)
    else:
        environment = python_environment(installed(EXAMPLE, work / "import"))
        ours, theirs = interleaved(
            lambda: cpu_seconds([sys.executable, "-c", "import tcprtt.tcprtt_skel"], env=environment),
            lambda: cpu_seconds(nothing, env=environment),
            rounds=rounds,
        )
        yield Row(
            what="import tcprtt_skel",
            reference="python -c pass",
            ours=ours,
            theirs=theirs,
            unit="s",
            target=more_by_at_most(0.015),
        )
    environment = python_environment(REPOSITORY)
    ours, theirs = interleaved(
        lambda: cpu_seconds([sys.executable, "-m", "hatch_bpf", "--help"], env=environment),
        lambda: cpu_seconds(nothing, env=environment),
        rounds=rounds,
    )
    yield Row(
        what="hatch-bpf --help",
        reference="python -c pass",
        ours=ours,
        theirs=theirs,
        unit="s",
        target=more_by_at_most(0.080),
    )


# --- loading --------------------------------------------------------------------------------------------------------


def of_loading(work: Path, rounds: int) -> Iterator[Row | Skipped]:
    what = "open + load + attach"
    lacking = lacks_bpf() or lacks_tools("clang", "cc")
    if lacking:
        yield Skipped(what=what, reason=lacking)
        return
    in_c = work / "load-in-c"
    built = subprocess.run(["cc", "-O2", "-o", in_c, BENCHMARKS / "load.c", "-lbpf"], capture_output=True, check=False)
    if built.returncode:
        yield Skipped(what=what, reason="the reference in C can't be compiled: libbpf's headers are not installed")
        return
    source = installed(EXAMPLE, work / "load-example")
    bpf_object = next(source.glob(f"tcprtt/_bpf/{os.uname().machine.replace('aarch64', 'arm64')}/tcprtt.bpf.o"))
    with cgroup() as group:
        in_python: list[str | Path] = [sys.executable, BENCHMARKS / "load.py", group]
        environment = python_environment(source)
        ours, theirs = interleaved(
            lambda: float(_output(in_python, environment)),
            lambda: float(_output([in_c, bpf_object, "bpf_sockops_cb", group])),
            rounds=rounds,
        )
        yield Row(
            what=what,
            reference="the same in C over libbpf",
            ours=ours,
            theirs=theirs,
            unit="s",
            target=ratio_at_most(1.25),
            note="in a process of its own each time; ours includes finding and loading libbpf, which is linked to the "
            "C program and so there before its clock starts",
        )
        if lacks_tools("bpftool"):
            return
        pins = Path(f"/sys/fs/bpf/hatch-bpf-benchmark-{os.getpid()}")
        ours, theirs = interleaved(
            lambda: cpu_seconds(in_python, env=environment),
            lambda: _loadall(bpf_object, pins),
            rounds=rounds,
        )
        yield Row(
            what=f"{what}, with the start of Python",
            reference="bpftool prog loadall",
            ours=ours,
            theirs=theirs,
            unit="s",
            note="whole processes; bpftool pins the program and does not attach it",
        )


def _loadall(bpf_object: Path, pins: Path) -> float:
    try:
        return cpu_seconds(["bpftool", "prog", "loadall", bpf_object, pins])
    finally:
        shutil.rmtree(pins, ignore_errors=True)


def _output(command: list[str | Path], environment: dict[str, str] | None = None) -> str:
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


# --- reading --------------------------------------------------------------------------------------------------------


class Event(ctypes.Structure):
    """`struct event` of bench.bpf.c, as one writes it by hand."""

    _fields_ = (
        ("time", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("number", ctypes.c_uint32),
        ("comm", ctypes.c_char * 16),
    )


class Traffic(ctypes.Structure):
    """`struct traffic` of bench.bpf.c."""

    _fields_ = (("packets", ctypes.c_uint64), ("bytes", ctypes.c_uint64))


SAMPLE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def of_reading(work: Path, rounds: int) -> Iterator[Row | Skipped]:
    lacking = lacks_bpf() or lacks_tools("clang")
    if lacking:
        yield Skipped(what="ring buffer and hash map", reason=lacking)
        return
    sys.path.insert(0, str(installed(BENCHMARKS / "project", work)))
    bench = importlib.import_module("bench.bench_skel")
    libbpf = plain_libbpf()
    with bench.Bench.open() as bpf, bpf.load() as skel:
        yield from of_ring_buffer(libbpf, skel, rounds)
        skel.maps.flows.update_many({i: bench.traffic(packets=i, bytes=2 * i) for i in range(ENTRIES)})
        yield from of_hash_map(libbpf, skel.maps.flows, rounds)


def plain_libbpf() -> ctypes.CDLL:
    """libbpf as one declares it by hand."""
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    libbpf.ring_buffer__new.restype = ctypes.c_void_p
    libbpf.ring_buffer__new.argtypes = (ctypes.c_int, SAMPLE, ctypes.c_void_p, ctypes.c_void_p)
    libbpf.ring_buffer__consume.argtypes = (ctypes.c_void_p,)
    libbpf.ring_buffer__free.argtypes = (ctypes.c_void_p,)
    libbpf.ring_buffer__free.restype = None
    libbpf.bpf_map_lookup_elem.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    libbpf.bpf_map_lookup_batch.argtypes = (ctypes.c_int, *[ctypes.c_void_p] * 6)
    libbpf.bpf_map_get_next_key.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    return libbpf


def of_ring_buffer(libbpf: ctypes.CDLL, skel: Any, rounds: int) -> Iterator[Row | Skipped]:
    ring = skel.maps.events
    total = 0

    def in_place(_context: int, data: int, _size: int) -> int:
        nonlocal total
        total += Event.from_address(data).number
        return 0

    def copied(_context: int, data: int, size: int) -> int:
        nonlocal total
        total += Event.from_buffer_copy(ctypes.string_at(data, size)).number
        return 0

    def consume(buffer: int) -> int:
        nonlocal total
        total = 0
        libbpf.ring_buffer__consume(buffer)
        return total

    def iterate() -> int:
        return sum([event.number for event in islice(ring, EVENTS)])

    def read_arrays() -> int:
        return int(ring.read_array()["number"].sum())

    def seconds(read: Callable[[], int]) -> float:
        first = skel.bss.number
        skel.programs.emit.test_run(bytes(64), repeat=EVENTS)
        found = []
        taken = cpu_of(lambda: found.append(read()))
        expected = sum(range(first, first + EVENTS))
        if found != [expected]:
            raise RuntimeError(f"the events' numbers add up to {found[0]}, not {expected}")
        return taken

    # a callback for each of libbpf's buffers, which stays as long as the buffer
    callbacks = [SAMPLE(in_place), SAMPLE(copied)]
    viewing, copying = (libbpf.ring_buffer__new(ring.fd, callback, None, None) for callback in callbacks)
    try:
        measured: list[tuple[str, Callable[[], int], str, int, float]] = [
            ("ring buffer, typed iteration", iterate, "struct over it", viewing, 1.5),
            ("ring buffer, typed iteration", iterate, "struct from a copy", copying, 1.5),
        ]
        if importlib.util.find_spec("numpy") is None:
            yield Skipped(what="ring buffer, NumPy batches", reason="NumPy is not installed")
        else:
            measured.append(("ring buffer, NumPy batches", read_arrays, "struct over it", viewing, 15))
        for what, read, reference, buffer, target in measured:
            ours, theirs = interleaved(
                lambda read=read: seconds(read),  # type: ignore[misc]
                lambda buffer=buffer: seconds(lambda: consume(buffer)),  # type: ignore[misc]
                rounds=rounds,
            )
            yield Row(
                what=what,
                reference=f"libbpf callback through ctypes, {reference}",
                ours=EVENTS / ours,
                theirs=EVENTS / theirs,
                unit="events/s",
                target=ratio_at_least(target),
                note=f"{EVENTS:,} events of {ctypes.sizeof(Event)} bytes, of each of which one member is read",
            )
    finally:
        libbpf.ring_buffer__free(viewing)
        libbpf.ring_buffer__free(copying)


def of_hash_map(libbpf: ctypes.CDLL, flows: Any, rounds: int) -> Iterator[Row | Skipped]:
    byref, fd = ctypes.byref, flows.fd
    lookup, lookup_batch = libbpf.bpf_map_lookup_elem, libbpf.bpf_map_lookup_batch
    next_key = libbpf.bpf_map_get_next_key

    def by_batch() -> int:
        return sum([traffic.packets for _, traffic in flows.items()])

    def by_arrays() -> int:
        return int(flows.read_arrays()[1]["packets"].sum())

    def by_known_keys() -> int:
        total = 0
        for number in range(ENTRIES):
            key, traffic = ctypes.c_uint32(number), Traffic()
            if lookup(fd, byref(key), byref(traffic)):
                raise OSError(ctypes.get_errno(), "lookup")
            total += traffic.packets
        return total

    def by_found_keys() -> int:
        total = 0
        last, key = None, ctypes.c_uint32()
        while not next_key(fd, last, byref(key)):
            traffic = Traffic()
            if lookup(fd, byref(key), byref(traffic)):
                raise OSError(ctypes.get_errno(), "lookup")
            total += traffic.packets
            last = byref(key)
        return total

    def by_kernel() -> int:
        keys, traffics = (ctypes.c_uint32 * BATCH)(), (Traffic * BATCH)()
        place, following, total = None, ctypes.c_uint64(), 0
        while True:
            count = ctypes.c_uint32(BATCH)
            is_last = lookup_batch(fd, place, byref(following), keys, traffics, byref(count), None)
            total += count.value
            if is_last:
                return total
            place = byref(following)

    def seconds(read: Callable[[], int], expected: int) -> float:
        found = []
        taken = cpu_of(lambda: found.append(read()))
        if found != [expected]:
            raise RuntimeError(f"what was read adds up to {found[0]}, not {expected}")
        return taken

    total = sum(range(ENTRIES))
    batch, known, found = "typed reads by batch", "one ctypes lookup each", "one ctypes get_next_key and lookup each"
    measured = [(batch, by_batch, known, by_known_keys), (batch, by_batch, found, by_found_keys)]
    if importlib.util.find_spec("numpy") is None:
        yield Skipped(what="hash map, NumPy arrays", reason="NumPy is not installed")
    else:
        measured.append((f"{batch}, NumPy arrays", by_arrays, known, by_known_keys))
    for what, read, reference, read_singly in measured:
        ours, theirs = interleaved(
            lambda read=read: seconds(read, total),  # type: ignore[misc]
            lambda read=read_singly: seconds(read, total),  # type: ignore[misc]
            rounds=max(3, rounds // 3),
        )
        kernel = min(seconds(by_kernel, ENTRIES) for _ in range(rounds))
        yield Row(
            what=f"hash map, {ENTRIES:,} {what}",
            reference=reference,
            ours=ENTRIES / ours,
            theirs=ENTRIES / theirs,
            unit="reads/s",
            target=ratio_at_least(10),
            note=f"against {reference}; bpf_map_lookup_batch() alone, and no Python object for what it reads: "
            f"{figure(ENTRIES / kernel, 'reads/s')}, {theirs / kernel:.3g} times the reference",
        )
