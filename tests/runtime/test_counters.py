"""Counters that programs add to while they are read: none is lost, on kernels with and without batches."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from tests.common import needs
from tests.common.skeleton_package import load_skeleton
from tests.runtime.interrupts import Alarm, InterruptError

COUNTS = 300_000
"""Counts of each test under load."""
UNSUPPORTED = 524
"""ENOTSUPP, by which kernels say that they have no batches for a map."""


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_skeleton("counters", tmp_path_factory.mktemp("counters"))


@pytest.fixture
def skel(skeleton: Any) -> Iterator[Any]:
    needs.root_bpf()
    with skeleton.Counters.open() as bpf, bpf.load() as loaded:
        yield loaded


@pytest.fixture(params=["batches", "one by one"])
def with_and_without_batches(request: pytest.FixtureRequest, skel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "one by one":
        for function in ("lookup", "update", "delete", "lookup_and_delete"):
            name = f"bpf_map_{function}_batch"
            monkeypatch.setattr(skel.maps.counts._libbpf, name, lambda *_: ctypes.set_errno(UNSUPPORTED) or -1)


@contextmanager
def load_on(program: Any, runs: int) -> Iterator[Callable[[], bool]]:
    """Run a program so many times in another thread; whether it still does."""

    def work() -> None:
        for _ in range(10):
            program.test_run(bytes(64), repeat=runs // 10)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread.is_alive
    finally:
        thread.join()


@pytest.mark.usefixtures("with_and_without_batches")
@pytest.mark.parametrize("name", ["counts", "recent", "structs", "cpu_counts", "routes"])
def test_drain_takes_everything_out(skeleton: Any, skel: Any, name: str) -> None:
    container = skel.maps[name]
    cpus = len(skel.maps.cpu_slots[0])
    items: dict[Any, Any] = {
        "counts": {i: i * i for i in range(900)},
        "recent": {i: i for i in range(50)},
        "structs": {i: skeleton.traffic(packets=i, name=b"x") for i in range(900)},
        "cpu_counts": {i: [skeleton.traffic(bytes=i)] * cpus for i in range(500)},
        "routes": {(i << 32) + 32: i for i in range(20)},
    }[name]
    container.update_many(items)
    drained = container.drain()
    assert len(drained) == len(items)
    assert dict(drained) == items
    assert container.drain() == []
    assert len(container) == 0


def test_drain_loses_no_count_under_load(skel: Any) -> None:
    """items() and clear() lose a fifth here. What a program adds in the very instant of the removal may be lost."""
    total = rounds = 0
    with load_on(skel.programs.into_counts, COUNTS) as is_running:
        while is_running():
            total += sum(value for _, value in skel.maps.counts.drain())
            rounds += 1
            time.sleep(0.001)
    total += sum(value for _, value in skel.maps.counts.drain())
    assert rounds > 3
    assert COUNTS - COUNTS // 1000 <= total <= COUNTS


@pytest.mark.usefixtures("with_and_without_batches")
def test_drain_without_removing_loses_nothing_at_all(skel: Any) -> None:
    total = rounds = 0
    with load_on(skel.programs.into_counts, COUNTS) as is_running:
        while is_running():
            total += sum(value for _, value in skel.maps.counts.drain(remove=False))
            rounds += 1
            time.sleep(0.001)
    total += sum(value for _, value in skel.maps.counts.drain(remove=False))
    assert rounds > 3
    assert total == COUNTS == sum(skel.maps.counts.values())
    assert skel.maps.counts.drain(remove=False) == []


def test_growth_of_pairs(skeleton: Any, skel: Any) -> None:
    cpus = len(skel.maps.cpu_slots[0])
    skel.maps.counts.update({1: 10, 2: 20})
    skel.maps.cpu_counts[1] = [skeleton.traffic(packets=cpu, name=b"old") for cpu in range(cpus)]
    assert sorted(skel.maps.counts.drain(remove=False)) == [(1, 10), (2, 20)]
    assert len(skel.maps.cpu_counts.drain(remove=False)) == 1
    skel.maps.counts.update({1: 15, 3: 7})
    skel.maps.cpu_counts[1] = [skeleton.traffic(packets=9, name=b"new") for _ in range(cpus)]
    assert sorted(skel.maps.counts.drain(remove=False)) == [(1, 5), (3, 7)]
    ((key, values),) = skel.maps.cpu_counts.drain(remove=False)
    assert (key, values) == (1, [skeleton.traffic(packets=9 - cpu, name=b"new") for cpu in range(cpus)])
    del skel.maps.counts[1]
    skel.maps.counts[1] = 4
    assert skel.maps.counts.drain(remove=False) == [(1, 4)], "begun anew"
    skel.maps.counts.clear()
    skel.maps.counts[1] = 9
    assert skel.maps.counts.drain(remove=False) == [(1, 9)]
    assert skel.maps.counts.drain() == [(1, 9)]
    skel.maps.counts[1] = 12
    assert skel.maps.counts.drain(remove=False) == [(1, 12)]


def test_inner_maps_in_turns_lose_nothing_at_all(skel: Any) -> None:
    current = skel.maps.current.create(0)
    total = rounds = 0
    with load_on(skel.programs.into_inner, COUNTS) as is_running:
        while is_running():
            full, current = current, skel.maps.current.create(0)
            total += sum(full.values())
            rounds += 1
            time.sleep(0.001)
    total += sum(current.values())
    assert rounds > 3
    assert total == COUNTS


@pytest.mark.usefixtures("with_and_without_batches")
def test_arrays_tell_what_they_have_grown_by(skel: Any) -> None:
    total = cpu_total = 0
    with load_on(skel.programs.into_arrays, COUNTS) as is_running:
        while is_running():
            total += sum(skel.maps.slots.drain())
            cpu_total += sum(map(sum, skel.maps.cpu_slots.drain()))
            time.sleep(0.001)
    total += sum(skel.maps.slots.drain())
    cpu_total += sum(map(sum, skel.maps.cpu_slots.drain()))
    assert total == cpu_total == COUNTS == sum(skel.maps.slots)
    assert set(skel.maps.slots.drain()) == {0}


def test_growth_of_structs_and_of_counters_that_start_again(skeleton: Any, skel: Any) -> None:
    totals = skel.maps.totals
    totals[1] = skeleton.traffic(packets=10, bytes=0xFFFFFFFF, name=b"old")
    assert totals.drain()[1].packets == 10
    totals[1] = skeleton.traffic(packets=12, bytes=4, name=b"new")
    assert totals.drain()[1] == skeleton.traffic(packets=2, bytes=5, name=b"new")


def test_what_a_signal_keeps_drain_from_returning_is_in_the_next(skel: Any) -> None:
    counts = skel.maps.counts
    counts.drain()
    interrupted = 0
    with Alarm(seed=3).installed() as alarm:
        for _ in range(100):
            counts.update_many(dict.fromkeys(range(100), 1))
            got: list[Any] = []
            interrupted += alarm.run(lambda: got.extend(counts.drain()), within=0.0006)  # noqa: B023
            got += counts.drain()
            assert sorted(got) == [(i, 1) for i in range(100)]
    assert interrupted


def test_every_moment_of_an_interrupt_keeps_the_counts(skel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception from the call that reads the batch's result on, and before the pairs are complete."""
    counts = skel.maps.counts
    read_many = counts._value.read_many

    def strike(_buffer: bytes) -> Any:
        raise InterruptError

    counts.update_many({i: i for i in range(10)})
    monkeypatch.setattr(counts._value, "read_many", strike)
    with pytest.raises(InterruptError):
        counts.drain()
    assert len(counts) == 0
    monkeypatch.setattr(counts._value, "read_many", read_many)
    counts[50] = 50
    assert dict(counts.drain()) == {**{i: i for i in range(10)}, 50: 50}


@pytest.mark.usefixtures("with_and_without_batches")
def test_arrays_are_read_and_written_many_at_a_time(skeleton: Any, skel: Any) -> None:
    large = skel.maps.slots
    large[:] = range(100)
    assert list(large) == list(range(100))
    assert list(reversed(large)) == list(range(99, -1, -1))
    assert large[5:9] == [5, 6, 7, 8]
    assert large[90:] == list(range(90, 100))
    assert large[::25] == [0, 25, 50, 75]
    assert large[9:5] == []
    large[10:20:5] = [1, 2]
    assert large[9:16] == [9, 1, 11, 12, 13, 14, 2]
    with pytest.raises(errors.InvalidValueError, match="map slots: 3 values do not fit 2 elements"):
        large[:2] = [1, 2, 3]
    cpus = len(skel.maps.cpu_slots[0])
    skel.maps.cpu_slots[:] = [[i] * cpus for i in range(100)]
    assert list(skel.maps.cpu_slots) == [[i] * cpus for i in range(100)]
    skel.maps.totals[1:3] = [skeleton.traffic(packets=1), skeleton.traffic(packets=2)]
    assert [total.packets for total in skel.maps.totals] == [0, 1, 2, 0]


def test_large_arrays_take_few_system_calls(skel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    large, libbpf = skel.maps.large, skel.maps.large._libbpf
    calls = count()
    for name in ("bpf_map_lookup_batch", "bpf_map_update_batch", "bpf_map_lookup_elem_flags", "bpf_map_update_elem"):
        function = getattr(libbpf, name)
        monkeypatch.setattr(libbpf, name, lambda *given, function=function: (next(calls), function(*given))[1])
    large[:] = range(65536)
    assert list(large) == list(range(65536))
    assert next(calls) <= 20


def test_sums_and_maxima_over_the_cpus(skeleton: Any, skel: Any) -> None:
    cpus = len(skel.maps.cpu_slots[0])
    skel.maps.cpu_slots[3] = list(range(cpus))
    assert skel.maps.cpu_slots.sums()[3] == sum(range(cpus))
    assert skel.maps.cpu_slots.maxima()[3] == cpus - 1
    skel.maps.cpu_counts[7] = [skeleton.traffic(packets=cpu, bytes=9 - cpu, name=b"eth") for cpu in range(cpus)]
    assert skel.maps.cpu_counts.sums() == {
        7: skeleton.traffic(packets=sum(range(cpus)), bytes=sum(9 - cpu for cpu in range(cpus)), name=b"eth")
    }
    assert skel.maps.cpu_counts.maxima() == {7: skeleton.traffic(packets=cpus - 1, bytes=9, name=b"eth")}
