"""Perf events: buffers that tell the CPU and what was lost, counters for programs to read, and samples of any event."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from hatch_bpf.runtime.events import perf_events
from tests.common import needs
from tests.common.skeleton_package import load_skeleton

CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("perf", tmp_path_factory.mktemp("perf"), events={"events": "event"})


@pytest.fixture
def skel(skeleton: Any) -> Iterator[Any]:
    needs.root_bpf()
    with skeleton.Perf.open() as bpf, bpf.load() as loaded:
        loaded.bss.pid = os.getpid()
        yield loaded


@contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    """Run on one CPU."""
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, CPUS)


def emit(skel: Any, count: int, cpu: int) -> None:
    """Make this thread enter the kernel on a CPU."""
    with on_cpu(cpu), skel.programs.emit.attach():
        for _ in range(count):
            os.getppid()


def test_events_with_their_cpu(skel: Any) -> None:
    events = skel.maps.events
    events.open()
    for cpu in CPUS:
        emit(skel, 10, cpu)
    total = skel.bss.number
    got = list(islice(events.with_cpu(), total))
    assert {cpu for cpu, _ in got} >= set(CPUS)
    assert all(cpu == event.cpu for cpu, event in got)
    assert sorted(event.number for _, event in got) == list(range(total))


def test_leaving_a_loop_with_cpus_loses_nothing(skel: Any) -> None:
    events = skel.maps.events
    events.open()
    emit(skel, 20, CPUS[0])
    total = skel.bss.number
    first = [event.number for _, event in islice(events.with_cpu(), 7)]
    rest = [event.number for event in events.poll(0)]
    assert first + rest == list(range(total))


def test_lost_events_are_told_as_they_happen(skel: Any) -> None:
    events = skel.maps.events
    lost: list[tuple[int, int]] = []
    events.open(pages=1, on_lost=lambda cpu, count: lost.append((cpu, count)))
    emit(skel, 1000, CPUS[-1])
    got = len(events.poll(0))
    assert not lost, "the kernel tells with the next event for which there is room"
    emit(skel, 1, CPUS[-1])
    got += len(events.poll(1))
    assert [cpu for cpu, _ in lost] == [CPUS[-1]]
    assert sum(count for _, count in lost) == events.lost == skel.bss.number - got


def test_a_paused_buffer_receives_nothing(skel: Any) -> None:
    events = skel.maps.events
    events.open()
    emit(skel, 3, CPUS[0])
    before = skel.bss.number
    events.pause()
    emit(skel, 5, CPUS[0])
    while_paused = skel.bss.number
    events.resume()
    emit(skel, 2, CPUS[0])
    got = [event.number for event in events.poll(1)]
    assert got == [*range(before), *range(while_paused, skel.bss.number)]
    assert while_paused > before
    assert events.lost == 0


@pytest.mark.parametrize("pages", [1, 4])
def test_new_events_overwrite_the_oldest(skel: Any, pages: int) -> None:
    events = skel.maps.events
    events.open(pages=pages, overwrite=True)
    assert events.latest() == []
    emit(skel, 3, CPUS[0])
    assert [event.number for event in events.latest()] == list(range(skel.bss.number))
    sizes = set()
    for turn in range(12):
        emit(skel, 990 + turn, CPUS[0])
        got = [event.number for event in events.latest() if event.cpu == CPUS[0]]
        assert got == list(range(skel.bss.number - len(got), skel.bss.number)), "the last ones, whole and in order"
        sizes.add(len(got))
    record = events._usual[1]
    assert max(sizes) == pages * mmap.PAGESIZE // record, "the pages are full"
    assert [event.number for event in events.latest() if event.cpu == CPUS[0]] == got, "reading removes nothing"


def test_the_latest_events_of_each_cpu(skel: Any) -> None:
    events = skel.maps.events
    events.open(overwrite=True)
    for cpu in reversed(CPUS):
        emit(skel, 5, cpu)
    got = [(event.cpu, event.number) for event in events.latest()]
    assert got == sorted(got)
    assert sorted(number for _, number in got) == list(range(skel.bss.number))


def test_a_buffer_is_either_waited_for_or_overwritten(skel: Any) -> None:
    events = skel.maps.events
    with pytest.raises(errors.MapError, match=r"keeps no latest events; open it with open\(overwrite=True\)"):
        events.latest()
    events.open(overwrite=True)
    for read in (events.read_batch, events.fileno, lambda: events.poll(0), lambda: next(iter(events))):
        with pytest.raises(errors.MapError, match=r"opened with overwrite=True; call latest\(\) to read it"):
            read()
    events.pause()
    emit(skel, 5, CPUS[0])
    assert events.latest() == []
    events.resume()
    emit(skel, 5, CPUS[0])
    assert len(events.latest()) >= 5


@pytest.mark.parametrize("pages", [1, 4])
def test_records_in_runs_wrap_around(skel: Any, pages: int) -> None:
    """The same events, whole and in order, wherever the pages end and whatever is between them."""
    events = skel.maps.events
    events.open(pages=pages)
    got: list[int] = []
    for turn in range(40):
        emit(skel, 30 + 17 * turn % 90, CPUS[0])
        got += [event.number for event in events.poll(0)]
    assert got == sorted(set(got))
    assert len(got) + events.lost == skel.bss.number


def test_all_cpus_are_read_when_events_trickle(skel: Any) -> None:
    """A reading that finds little ends after a look at every CPU, and one that may wait lets events gather."""
    events = skel.maps.events
    events.open()
    for _ in range(20):
        for cpu in CPUS:
            emit(skel, 1, cpu)
        total = skel.bss.number
        got = events.read_batch()
        assert got
        assert max(event.number for event in got) == total - 1
        assert {event.cpu for event in got} >= set(CPUS)
    assert events._is_trickle
    emit(skel, 1, CPUS[0])
    assert events.poll(1)
    assert events.poll(0) == []


def test_usual_records_are_counted_up_to_others(skel: Any) -> None:
    events = skel.maps.events
    kind, size, length = events._usual
    usual = perf_record(kind, size, bytes(4))
    assert len(usual) == size
    assert length == size - 12
    other, lost = perf_record(kind, size + 8, bytes(4)), perf_record(2, 24, bytes(4))
    for after in (b"", usual[:9], other, lost):
        for count in (0, 1, 2, 7):
            assert events._count_usual(usual * count + after) == count
    parsed, end, number = events._parse(lost + usual * 3)
    assert (list(parsed), end, number) == ([], 24, 0)
    parsed, end, number = events._parse(usual * 3 + lost)
    assert (len(list(parsed)), end, number) == (3, 3 * size, 0)


def test_a_record_that_is_cut_off_in_its_header_is_left_for_the_next_reading(skel: Any) -> None:
    """Readings end after 64 KiB, which may be behind the first 8 bytes of a record."""
    events = skel.maps.events
    kind, size, _ = events._usual
    longer = perf_record(kind, size + 8, bytes(4))
    for cut in range(size + 8):
        parsed, end, lost = events._parse(longer + longer[:cut])
        assert (len(list(parsed)), end, lost) == (1, size + 8, 0)


def perf_record(kind: int, size: int, data: bytes) -> bytes:
    """A record with a header, and for a sample the length of its data."""
    header = kind.to_bytes(4, "little") + bytes(2) + size.to_bytes(2, "little")
    return (header + (size - 12).to_bytes(4, "little") + data).ljust(size, b"\0")


# --- counters -------------------------------------------------------------------------------------------------------


def test_programs_read_counters(skel: Any) -> None:
    counters = skel.maps.counters
    with on_cpu(CPUS[0]), skel.programs.read_counter.attach():
        os.getppid()
        assert skel.bss.refused == -2, "ENOENT: it is empty"
        counters.open_counters("page-faults")
        os.getppid()
        assert skel.bss.refused == 0
        before = skel.bss.count
        touch(300)
        os.getppid()
        assert 300 <= skel.bss.count - before < 3000
    for read in (lambda: counters.poll(0), counters.fileno, counters.open):
        with pytest.raises(errors.MapError, match="map counters holds counters, which programs read"):
            read()
    with pytest.raises(errors.MapError, match="is open for events; it can't hold counters too"):
        skel.maps.events.open_counters("page-faults")


def touch(pages: int) -> None:
    """Cause so many page faults."""
    with mmap.mmap(-1, pages * mmap.PAGESIZE) as memory:
        if hasattr(memory, "madvise"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        for page in range(pages):
            memory[page * mmap.PAGESIZE] = 1


def test_an_event_that_nobody_knows(skel: Any) -> None:
    for name in ("cycle", "L1-dcache", "L1-dcache-prefetchs"):
        with pytest.raises(errors.InvalidValueError, match=f"no event is called '{name}'; there are cpu-clock, .*LLC"):
            skel.maps.counters.open_counters(name)
        with pytest.raises(errors.InvalidValueError, match=f"no event is called '{name}'"):
            skel.programs.on_sample.attach_sampling(period=1, event=name)


def test_an_event_that_this_machine_lacks(skel: Any) -> None:
    lacking = 0, 0xFFFF  # a hardware event of no number
    with pytest.raises(errors.BpfError) as caught:
        skel.programs.on_sample.attach_sampling(99, event=lacking)
    assert caught.value.errno in (2, 22)
    if caught.value.errno == 2:
        assert "this machine does not count" in str(caught.value)
    assert skel.links == ()


def test_names_of_events_are_those_of_perf() -> None:
    """By the numbers in linux/perf_event.h."""
    known = {"cycles": (0, 0), "branch-misses": (0, 5), "ref-cycles": (0, 9), "page-faults": (1, 2), "dummy": (1, 9)}
    known |= {"L1-dcache-loads": (3, 0), "LLC-load-misses": (3, 0x10002), "dTLB-store-misses": (3, 0x10103)}
    known |= {"L1-dcache-prefetches": (3, 0x200), "node-prefetch-misses": (3, 0x10206)}
    assert {name: perf_events.event_config(name) for name in known} == known
    assert perf_events.event_config((6, 7)) == (6, 7)


# --- samples --------------------------------------------------------------------------------------------------------


def test_a_period_samples_each_time(skel: Any) -> None:
    links = skel.programs.on_sample.attach_sampling(period=10, event="page-faults", pid=0)
    before = skel.bss.samples
    touch(500)
    for link in links:
        link.detach()
    assert 45 <= skel.bss.samples - before <= 100


def test_hardware_events_where_there_are_some(skel: Any) -> None:
    try:
        links = skel.programs.on_sample.attach_sampling(period=100_000, event="instructions", pid=0)
    except errors.AttachError as error:
        assert "this machine does not count instructions: virtual machines" in str(error)  # noqa: PT017
        pytest.skip("this machine has no hardware events")
    sum(range(1_000_000))
    assert skel.bss.samples > 5
    assert links


@pytest.mark.parametrize("given", [{}, {"frequency": 99, "period": 5}, {"period": -1}, {"frequency": -5}])
def test_frequency_or_period(skel: Any, given: dict[str, int]) -> None:
    with pytest.raises(errors.AttachError, match="give one of them, 1 is the least"):
        skel.programs.on_sample.attach_sampling(**given)
    assert skel.links == ()
