"""Ring and perf buffers give typed events in order, wait, stop for exceptions and Ctrl-C, and work with asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from hatch_bpf.runtime import errors, wait
from tests.common import tracefs
from tests.common.skeleton_package import load_skeleton


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Any:
    events = {"ring": "event", "perf": "struct event", "notes": "note", "orders": "__u64"}
    return load_skeleton("events", tmp_path_factory.mktemp("events"), events=events)


@pytest.fixture
def skel(skeleton: Any) -> Iterator[Any]:
    tracefs.mounted()
    with skeleton.Events.open() as bpf:
        bpf.rodata.pid = os.getpid()
        with bpf.load() as loaded:
            loaded.attach()
            yield loaded


def emit(count: int) -> None:
    for _ in range(count):
        os.getppid()


@pytest.mark.parametrize("name", ["ring", "perf"])
def test_events_are_typed_and_in_order(skeleton: Any, skel: Any, name: str) -> None:
    buffer = skel.maps[name]
    assert buffer.poll(0) == []
    emit(5)
    events = buffer.poll(1)
    assert all(isinstance(event, skeleton.event) for event in events)
    comm = Path("/proc/self/comm").read_text().strip()
    assert [event.to_dict() for event in events if event.number < 5] == [
        {"number": number, "pid": os.getpid(), "comm": comm} for number in range(skel.bss.number)
    ][:5]


@pytest.mark.parametrize("name", ["ring", "perf"])
def test_leaving_a_loop_loses_nothing(skel: Any, name: str) -> None:
    buffer = skel.maps[name]
    buffer.poll(0)
    emit(10)
    first = []
    for event in buffer:
        first.append(event.number)
        if len(first) == 4:
            break
    rest = [event.number for event in buffer.poll(0)]
    assert first + rest == list(range(10))


@pytest.mark.parametrize("name", ["ring", "perf"])
def test_threads_share_a_buffer(skel: Any, name: str) -> None:
    """Each event comes to one of them, whether they iterate or poll."""
    buffer = skel.maps[name]
    buffer.poll(0)
    found: list[list[int]] = [[], [], []]

    def take(numbers: list[int]) -> None:
        with contextlib.suppress(errors.ClosedError):
            while True:
                for event in islice(buffer, 7):
                    numbers.append(event.number)
                numbers += [event.number for event in buffer.poll(0)]

    for numbers in found:
        threading.Thread(target=take, args=[numbers], daemon=True).start()
    deadline = time.monotonic() + 30
    while not {number for numbers in found for number in numbers} >= set(range(3000)):
        assert time.monotonic() < deadline, "some event came to nobody"
        emit(50)
        time.sleep(0.001)
    assert max(Counter(number for numbers in found for number in numbers).values()) == 1


@pytest.mark.parametrize("name", ["ring", "perf"])
def test_poll_waits_for_the_first_event(skel: Any, name: str) -> None:
    buffer = skel.maps[name]
    buffer.poll(0)
    worker = threading.Timer(0.2, emit, [1])
    worker.start()
    try:
        (event,) = buffer.poll(30)
        assert event.number == 0
    finally:
        worker.join()
    started = time.monotonic()
    assert buffer.poll(0.05) == []
    assert time.monotonic() - started >= 0.04


@pytest.mark.parametrize("name", ["ring", "perf"])
def test_an_exception_in_the_loop_goes_to_the_caller(skel: Any, name: str) -> None:
    buffer = skel.maps[name]
    buffer.poll(0)
    emit(3)

    def divide() -> None:
        for event in buffer:
            1 / event.number

    with pytest.raises(ZeroDivisionError):
        divide()
    assert [event.number for event in buffer.poll(0)] == [1, 2]


@pytest.mark.parametrize("name", ["ring", "perf"])
def test_ctrl_c_ends_the_loop(skel: Any, name: str) -> None:
    buffer = skel.maps[name]
    buffer.poll(0)
    worker = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    worker.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            for _ in buffer:
                pass
    finally:
        worker.join()
        signal.signal(signal.SIGINT, before)
    emit(1)
    assert len(buffer.poll(1)) == 1


@pytest.mark.parametrize("name", ["ring", "perf"])
def test_async_for(skel: Any, name: str) -> None:
    buffer = skel.maps[name]
    buffer.poll(0)

    async def collect() -> list[int]:
        numbers = []
        async for event in buffer:
            numbers.append(event.number)
            if len(numbers) == 20:
                break
        return numbers

    async def both() -> list[int]:
        task = asyncio.create_task(collect())
        for _ in range(4):
            await asyncio.sleep(0.02)
            emit(5)
        return await asyncio.wait_for(task, 30)

    assert asyncio.run(both()) == list(range(20))


@pytest.mark.parametrize("name", ["ring", "perf"])
def test_async_for_ends_when_the_skeleton_is_closed(skel: Any, name: str) -> None:
    async def collect() -> None:
        async for _ in skel.maps[name]:
            pass

    async def both() -> None:
        tasks = [asyncio.create_task(collect()) for _ in range(2)]
        await asyncio.sleep(0.05)
        skel.close()
        for task in tasks:
            with pytest.raises(errors.ClosedError):
                await asyncio.wait_for(task, 30)

    asyncio.run(both())


@pytest.mark.parametrize("name", ["ring", "perf"])
@pytest.mark.parametrize("together", [True, False])
def test_two_tasks_on_one_buffer(skel: Any, name: str, together: bool) -> None:
    """Each gets an event, even if the first that wakes has taken both from the kernel, or is through with its own."""
    buffer = skel.maps[name]
    buffer.poll(0)

    async def first() -> int:
        async for event in buffer:
            return int(event.number)
        raise AssertionError

    async def both() -> list[int]:
        tasks = [asyncio.create_task(first()) for _ in range(2)]
        await asyncio.sleep(0.05)
        for _ in range(2):
            emit(1)
            await asyncio.sleep(0 if together else 0.05)
        return await asyncio.wait_for(asyncio.gather(*tasks), 30)

    descriptors = len(os.listdir("/proc/self/fd"))
    assert sorted(asyncio.run(both())) == [0, 1]
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2, "the pipe that wakes at the end is all that may stay"


@pytest.mark.parametrize("name", ["ring", "perf"])
def test_the_descriptor_is_for_event_loops(skel: Any, name: str) -> None:
    buffer = skel.maps[name]
    buffer.poll(0)
    poller = select.poll()
    poller.register(buffer, select.POLLIN)
    assert poller.poll(0) == []
    emit(1)
    assert poller.poll(1000) != []
    assert len(buffer.read_batch()) == 1


def test_a_ring_goes_round_and_round(skel: Any) -> None:
    """Far more bytes than the ring has, read as they come: each once, in order."""
    numbers: list[int] = []
    for _ in range(40):
        emit(200)
        numbers += [event.number for event in skel.maps.ring.poll(1)]
    assert numbers == list(range(8000))
    assert skel.bss.dropped == 0


def test_a_full_ring_loses_events_and_never_garbles_one(skel: Any) -> None:
    emit(5000)
    lost = skel.bss.dropped
    assert lost > 0
    numbers = [event.number for event in skel.maps.ring.poll(0)]
    assert numbers == list(range(5000 - lost))
    emit(1)
    assert [event.number for event in skel.maps.ring.poll(0)] == [5000]


@pytest.mark.parametrize("name", ["ring", "perf"])
def test_nothing_from_before_the_first_read_is_lost(skel: Any, name: str) -> None:
    emit(3)
    assert [event.number for event in skel.maps[name].poll(1)] == [0, 1, 2]


def test_a_full_perf_buffer_counts_what_it_lost(skeleton: Any) -> None:
    tracefs.mounted()
    with skeleton.Events.open() as bpf:
        bpf.rodata.pid = os.getpid()
        skel = bpf.load()
        perf = skel.maps.perf
        perf.open(pages=1)
        skel.attach()
        with pytest.raises(errors.MapError, match=r"is open already; call open\(\) before anything is attached"):
            perf.open()
        emit(1000)
        got = len(perf.poll(0))
        emit(1)  # the kernel reports a loss with the next event there is room for
        got += len(perf.poll(1))
        assert perf.lost > 0
        assert got + perf.lost == 1001


def test_records_of_any_length(skeleton: Any, skel: Any) -> None:
    emit(8)
    notes = skel.maps.notes.poll(1)
    assert all(isinstance(note, skeleton.note) for note in notes)
    assert [(note.length, note.text) for note in notes] == [(n, b"abcdefg"[:n]) for n in range(8)]
    assert str(notes[3].text) == "abc"
    raw = skel.maps.raw.poll(0)
    assert raw == [number.to_bytes(8, "little") for number in range(8)]


def test_a_record_without_a_type_is_bytes(tmp_path: Path) -> None:
    tracefs.mounted()
    with load_skeleton("events", tmp_path).Events.open() as bpf, bpf.load() as skel:
        with pytest.raises(errors.InvalidTypeError, match="user ring buffer orders: record: must be bytes, not int"):
            skel.maps.orders.send(42)
        assert skel.maps.orders.send(b"12345678")


def test_a_user_ring_buffer_reaches_the_program(skel: Any) -> None:
    assert skel.maps.orders.send(40)
    assert skel.maps.orders.send(2)
    emit(1)
    assert skel.bss.ordered == 42
    sent = 0
    while skel.maps.orders.send(1):
        sent += 1
    assert sent == 4096 // 16, "a full buffer says so"


def test_a_closed_buffer_says_so(skeleton: Any) -> None:
    tracefs.mounted()
    with skeleton.Events.open().load() as skel:
        ring, perf = skel.maps.ring, skel.maps.perf
        ring.poll(0)
        perf.poll(0)
    for buffer in (ring, perf):
        with pytest.raises(errors.ClosedError, match="the skeleton is closed"):
            buffer.poll(0)
        with pytest.raises(errors.ClosedError):
            next(iter(buffer))


def test_closing_ends_the_waits_of_other_threads(skeleton: Any) -> None:
    tracefs.mounted()
    with skeleton.Events.open().load() as skel:
        ended: list[type[BaseException]] = []

        def wait_for(name: str) -> None:
            try:
                skel.maps[name].poll()
            except errors.ClosedError as error:
                ended.append(type(error))

        workers = [threading.Thread(target=wait_for, args=[name], daemon=True) for name in ("ring", "perf")]
        for worker in workers:
            worker.start()
        time.sleep(0.2)
    for worker in workers:
        worker.join(30)
    assert ended == [errors.ClosedError] * 2


def test_waiting_for_several_buffers(skel: Any) -> None:
    buffers = [skel.maps.ring, skel.maps.perf]
    for buffer in buffers:
        buffer.poll(0)
    worker = threading.Timer(0.1, emit, [1])
    worker.start()
    wait(buffers, 30)
    worker.join()
    assert sum(len(buffer.read_batch()) for buffer in buffers) == 2


def test_numpy_sees_the_same_events(skel: Any) -> None:
    pytest.importorskip("numpy")
    ring = skel.maps.ring
    assert len(ring.read_array()) == 0
    numbers: list[int] = []
    for _ in range(20):
        emit(300)
        array = ring.read_array()
        numbers += array["number"].tolist()
        assert set(array["pid"].tolist()) == {os.getpid()}
        assert array["comm"][0].decode() == Path("/proc/self/comm").read_text().strip()
    assert numbers == list(range(6000))
    emit(1)
    assert ring.poll(0)[0].number == 6000
    with pytest.raises(errors.InvalidTypeError, match="its events have no struct type"):
        skel.maps.raw.read_array()
    assert len(skel.maps.notes.read_array()) == 1, "the first note is as long as its struct, the second is not"
    with pytest.raises(errors.InvalidTypeError, match="a record has"):
        skel.maps.notes.read_array()
