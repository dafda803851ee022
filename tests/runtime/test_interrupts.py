"""Exceptions of signal handlers: each reaches the application, no event is lost or comes twice, nothing stays open."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import pytest

from hatch_bpf.runtime import errors
from tests.common import needs
from tests.common.namespaces import own_loopback
from tests.common.skeleton_package import load_skeleton
from tests.runtime.interrupts import Alarm, InterruptError, Step

ROUNDS = int(os.environ.get("INTERRUPTS", "150"))
"""Interrupts of each random test; with 1000 and more, every moment is tried where else some are."""
STRIDE = 1 if ROUNDS >= 1000 else 23
BATCH = 200
"""Events of each round."""
PACKET = bytes(64)
PRODUCERS = {"ring": "into_ring", "texts": "into_texts", "perf": "into_perf"}
looks_as_assumed = pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython before 3.11 looks elsewhere")


@pytest.fixture(autouse=True)
def logging_is_not_left_locked() -> Iterator[None]:
    """An exception may come after logging has taken its lock and before the `try` that releases it. That is CPython's
    fault, but other threads of later tests would wait forever."""
    yield
    logging._lock = threading.RLock()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with contextlib.suppress(ImportError):
        importlib.import_module("numpy")  # which an interrupt of its import leaves broken for good
    events = {"ring": "event", "texts": "text", "perf": "event"}
    return load_skeleton("interrupts", tmp_path_factory.mktemp("interrupts"), events=events)


@pytest.fixture
def skel(skeleton: Any) -> Iterator[Any]:
    needs.root_bpf()
    with skeleton.Interrupts.open() as bpf, bpf.load() as loaded:
        loaded.maps.perf.open()
        yield loaded


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    with Alarm(seed=1).installed() as made:
        yield made
    assert made.swallowed == []


def produce(skel: Any, name: str, count: int = BATCH) -> None:
    program = skel.programs[PRODUCERS[name]]
    for _ in range(count):  # the kernel takes its time to repeat
        program.test_run(PACKET)


def by_iterating(buffer: Any, got: list[Any]) -> None:
    for event in islice(buffer, BATCH):
        got.append(event)


def by_polling(buffer: Any, got: list[Any]) -> None:
    while True:
        batch = buffer.poll(0.001)
        if not batch:
            break
        got += batch


def by_batches(buffer: Any, got: list[Any]) -> None:
    while True:
        batch = buffer.read_batch()
        if not batch:
            break
        got += batch


def by_arrays(buffer: Any, got: list[Any]) -> None:
    while True:
        array = buffer.read_array()
        if not len(array):
            break
        got += [array]


def numbers(got: list[Any]) -> list[int]:
    """The numbers of events, and of those in arrays."""
    found: list[int] = []
    for event in got:
        found += [event.number] if hasattr(event, "number") else event["number"].tolist()
    return found


def in_order(name: str, got: list[Any]) -> list[int]:
    """The numbers as they came; of a perf buffer, which has an order for each CPU, from the lowest on."""
    return sorted(numbers(got)) if name == "perf" else numbers(got)


WAYS = [
    *((name, read) for name in PRODUCERS for read in (by_iterating, by_polling, by_batches)),
    ("ring", by_arrays),
]


@pytest.mark.parametrize(("name", "read"), WAYS, ids=lambda value: getattr(value, "__name__", value))
def test_at_random_moments_each_event_comes_once(
    skel: Any, alarm: Alarm, name: str, read: Callable[[Any, list[Any]], None]
) -> None:
    buffer, got, interrupted = skel.maps[name], list[Any](), 0

    def action() -> None:
        read(buffer, got)

    for _ in range(ROUNDS):
        produce(skel, name)
        interrupted += alarm.run(action, within=1e-3)
        got += buffer.read_batch()  # else the buffer is full after some rounds
    assert in_order(name, got) == list(range(ROUNDS * BATCH))
    assert interrupted == alarm.raised > 0


@looks_as_assumed
@pytest.mark.parametrize(("name", "read"), WAYS, ids=lambda value: getattr(value, "__name__", value))
def test_at_each_moment_each_event_comes_once(
    skel: Any, name: str, read: Callable[[Any, list[Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "BATCH", 20)
    buffer, places = skel.maps[name], list[str]()
    while True:
        first, got = 20 * len(places), list[Any]()
        produce(skel, name, 20)
        step = Step(len(places))
        if not step.run(lambda: read(buffer, got)):  # noqa: B023
            break
        places.append(step.where)
        got += buffer.read_batch()
        assert in_order(name, got) == list(range(first, first + 20)), f"after the exception at {step.where}"
    assert len(set(places)) > 10


def test_events_taken_before_an_exception_come_in_their_order(skel: Any) -> None:
    """Whichever way they were taken, and whichever way they are read next."""
    ring, got = skel.maps.ring, list[Any]()
    for moment in range(0, 40, 3):
        for first in (by_polling, by_arrays, by_iterating):
            for then in (by_iterating, by_arrays, by_batches):
                produce(skel, "ring", 10)
                step = Step(moment)
                source = islice(ring, 10) if first is by_iterating else ring
                step.run(partial(first, source, got))
                produce(skel, "ring", 10)
                if then is by_iterating:
                    got.append(next(iter(ring)))
                then(islice(ring, 3) if then is by_iterating else ring, got)
    got += ring.read_batch()
    assert numbers(got) == list(range(14 * 9 * 20))


@pytest.fixture
def loopback() -> Iterator[str]:
    with own_loopback() as name:
        yield name


def opened_and_loaded(skeleton: Any, loopback: str) -> None:
    with skeleton.Interrupts.open() as bpf, bpf.load() as loaded:
        loaded.attach()
        loaded.maps.perf.poll(0)
        loaded.maps.ring.poll(0)
        loaded.maps.orders.send(bytes(8))
        with loaded.programs.into_ring.attach_xdp(loopback, mode="skb"):
            pass
        loaded.programs.into_ring.attach_xdp(loopback, mode="skb", replace=True)


def is_open() -> dict[str, int]:
    gc.collect()

    def count(kind: str) -> int:
        shown = subprocess.run(["bpftool", "-j", kind, "show", "pids"], capture_output=True, text=True, check=False)
        return shown.stdout.count(f'"pid":{os.getpid()},')

    with open("/proc/self/maps") as file:
        mappings = sum("bpf" in line or "perf_event" in line for line in file)
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "programs": count("prog"),
        "maps": count("map"),
        "links": count("link"),
        "mappings": mappings,
    }


def test_at_random_moments_nothing_stays_open(skeleton: Any, alarm: Alarm, loopback: str) -> None:
    needs.root_bpf()
    opened_and_loaded(skeleton, loopback)
    before, started = is_open(), time.monotonic()
    opened_and_loaded(skeleton, loopback)
    within = 1.1 * (time.monotonic() - started)
    interrupted = sum(alarm.run(lambda: opened_and_loaded(skeleton, loopback), within=within) for _ in range(ROUNDS))
    assert interrupted == alarm.raised > ROUNDS // 2
    assert is_open() == before


def test_an_exception_while_a_skeleton_is_collected_is_not_lost(skeleton: Any, alarm: Alarm) -> None:
    """One that nobody has closed. Python drops what a finalizer raises, so nothing can save an exception that comes as
    the finalizer begins, before its first statement: that moment alone is left out."""
    needs.root_bpf()

    def forget() -> None:
        skeleton.Interrupts.open().load()
        time.sleep(0.001)

    forget()
    before, took = is_open(), list[float]()
    for _ in range(5):
        started = time.monotonic()
        forget()
        took.append(time.monotonic() - started)
    interrupted = 0
    for _ in range(ROUNDS):
        try:
            interrupted += alarm.run(forget, within=min(took))
        except AssertionError:
            if not alarm.swallowed:  # the thread that raises it again is late
                with pytest.raises(InterruptError):
                    time.sleep(10)
                interrupted += 1
                continue
            (dropped,) = alarm.swallowed
            (frame, line), (handler, _) = traceback.walk_tb(dropped.exc_traceback)
            assert (frame.f_code.co_name, line) == ("_close_quietly", frame.f_code.co_firstlineno)
            assert handler.f_code.co_name == "_strike"
            alarm.swallowed.clear()
            alarm.raised -= 1
            forget()  # which closes the one that was left, too
    assert interrupted == alarm.raised > ROUNDS // 4
    assert is_open() == before


@looks_as_assumed
def test_at_each_moment_nothing_stays_open(skeleton: Any, loopback: str) -> None:
    needs.root_bpf()
    opened_and_loaded(skeleton, loopback)
    before, moment = is_open(), 0
    while True:
        step = Step(moment)
        if not step.run(lambda: opened_and_loaded(skeleton, loopback)):
            break
        step.error = None
        if moment % (50 * STRIDE) == 0 or len(os.listdir("/proc/self/fd")) != before["descriptors"]:
            assert is_open() == before, f"after the exception at {step.where}"
        moment += STRIDE
    assert is_open() == before
    assert moment > 500


def test_a_record_of_a_user_ring_buffer_is_sent_or_not(skel: Any, alarm: Alarm) -> None:
    """None stays half sent, which would block those behind it."""
    orders, total = skel.maps.orders, 0

    def send() -> None:
        for number in range(1000):
            orders.send(number.to_bytes(8, "little"))

    for _ in range(ROUNDS):
        alarm.run(send, within=5e-4)
        skel.programs.out_of_orders.test_run()
    total = skel.bss.ordered
    assert orders.send(bytes(8))
    skel.programs.out_of_orders.test_run()
    assert skel.bss.ordered == total + 1


@pytest.mark.parametrize("name", ["ring", "texts", "perf"])
def test_threads_that_share_an_iterator(skel: Any, name: str) -> None:
    """Each event comes to one of them; the second to wait for the iterator gets a ValueError."""
    got: list[list[int]] = [[], []]
    refused: list[str] = []
    iterator = iter(skel.maps[name])

    def take(mine: list[int]) -> None:
        while True:
            try:
                for event in iterator:
                    mine.append(event.number)
                return  # a generator that was closed
            except ValueError as error:
                refused.append(str(error))
                time.sleep(0.001)
            except errors.ClosedError:
                return

    workers = [threading.Thread(target=take, args=[mine], daemon=True) for mine in got]
    for worker in workers:
        worker.start()
    for _ in range(20):
        produce(skel, name, 50)
        time.sleep(0.005)
    deadline = time.monotonic() + 30
    while len(got[0] + got[1]) < 1000 and time.monotonic() < deadline:
        time.sleep(0.005)  # closing drops what nobody has read
    skel.close()
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive()
    assert sorted(got[0] + got[1]) == list(range(1000))
    assert set(refused) <= {"generator already executing"}


@looks_as_assumed
def test_a_loop_that_ends_with_an_exception_leaves_nothing_open(skeleton: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C among records of variable length, whose traceback holds on to the frames that read them."""
    needs.root_bpf()
    monkeypatch.setitem(globals(), "BATCH", 20)
    moment, errors_kept = 0, list[Any]()

    def read(loaded: Any) -> None:
        with loaded:
            by_iterating(loaded.maps.texts, [])

    while True:
        with skeleton.Interrupts.open() as bpf:
            loaded = bpf.load()
            produce(loaded, "texts", 20)
            step = Step(moment)
            if not step.run(lambda: read(loaded)):  # noqa: B023
                break
            errors_kept.append(step.error)
            assert loaded._held.pointer == 0, f"after the exception at {step.where}"
        moment += 1
    assert len(errors_kept) > 10
